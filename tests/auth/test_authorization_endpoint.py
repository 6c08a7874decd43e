import re
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.auth.client import CALLBACK, ISSUER, AuthClient, Service
from tests.auth.conftest import Start


def test_rfc6749_section_4_1_2_authorize_redirects_with_code_and_state(client: AuthClient) -> None:
    answer = client.authorize(state="f00d")
    assert answer.status == 0  # the declared success status, 302
    assert answer.location.startswith(CALLBACK + "?")
    assert re.match(r"test_auth_code_\d{10}_hint_YWxpY2U=\.", answer.parameters["code"])
    assert answer.parameters["state"] == "f00d"


def test_rfc9207_section_2_the_response_names_the_issuer(client: AuthClient) -> None:
    assert client.authorize().parameters["iss"] == ISSUER


def test_a_callback_with_a_query_keeps_it(start: Start) -> None:
    callback = "https://app.example/cb?tenant=1"
    client = start(oauth_client_callback_allowlist=[callback]).client
    answer = client.authorize(client_callback=callback)
    assert answer.location.startswith(callback + "&code=")
    assert client.exchange(answer.parameters["code"], redirect_uri=callback).status == 0


def test_a_state_whose_plus_arrived_as_a_space_returns_with_the_plus(client: AuthClient) -> None:
    answer = client.authorize(state="eyJj cmV0 In0=")
    assert answer.parameters["state"] == "eyJj+cmV0+In0="


def test_without_a_state_the_server_makes_one(client: AuthClient) -> None:
    states = {client.authorize(state="").parameters["state"] for _ in range(2)}
    assert len(states) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}=", state) for state in states)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"idp": "google"}, "invalid_provider"),
        ({"client_callback": "https://evil.example/"}, "invalid_request"),
        ({"client_callback": CALLBACK + "#x"}, "invalid_request"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "profile email"}, "invalid_scope"),
        ({"scope": "openid2"}, "invalid_scope"),
        ({"scope": "openid, email"}, "invalid_scope"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"login_hint": "a.b"}, "invalid_request"),
        ({"login_hint": "al"}, "invalid_request"),
    ],
)
def test_a_faulty_request_is_400_and_not_redirected(client: AuthClient, changes: dict[str, str], code: str) -> None:
    answer = client.authorize(**changes)
    assert (answer.status, answer.error) == (400, code)
    assert "location" not in dict(answer.headers)


def test_an_invalid_hint_is_told_the_rule(client: AuthClient) -> None:
    assert "3 to 20" in client.authorize(login_hint="a.b").json["error_description"]


def test_an_empty_allow_list_denies_every_callback(start: Start) -> None:
    client = start(build_mode="test", oauth_client_callback_allowlist=["https://other.example/"]).client
    assert client.authorize().error == "invalid_request"


def test_idp_defaults_to_the_dev_provider(client: AuthClient) -> None:
    code = client.authorize(idp="").parameters["code"]
    assert client.exchange(code, idp="").status == 0


def test_in_production_the_dev_provider_does_not_exist(start: Start) -> None:
    client = start(build_mode="production", oauth_client_callback_allowlist=[CALLBACK]).client
    assert client.authorize().error == "invalid_provider"
    assert client.authorize(idp="").error == "invalid_request"
    refused = client.exchange("test_auth_code_1")
    assert (refused.status, refused.error) == (403, "unsupported_grant_type")
    assert client.exchange("test_auth_code_1", idp="google").error == "invalid_provider"


def test_without_a_client_callback_the_login_passes_through_the_servers_and_ends_there(client: AuthClient) -> None:
    answer = client.authorize(client_callback="")
    parts = urlsplit(answer.location)
    assert answer.location.startswith("http://localhost:8080/oauth2/callback?")
    ended = client.callback(**dict(parse_qsl(parts.query)))
    assert (ended.status, ended.error) == (400, "invalid_request")


def test_a_code_built_by_the_client_finishes_a_live_state(client: AuthClient) -> None:
    client.authorize(state="abc+def")
    answer = client.callback(code="test_auth_code_1700000000_hint_Ym9i", state="abc def")
    assert answer.location.startswith(CALLBACK + "?")
    assert answer.parameters == {"code": "test_auth_code_1700000000_hint_Ym9i", "state": "abc+def", "iss": ISSUER}
    granted = client.exchange(answer.parameters["code"])
    assert client.profile(granted.json["access_token"]).json["provider_id"] == "bob"


def test_a_code_built_by_the_client_is_worth_nothing_without_a_state(client: AuthClient) -> None:
    assert client.exchange("test_auth_code_1700000000_hint_Ym9i").error == "invalid_grant"


@pytest.mark.parametrize(
    "parameters",
    [
        {"code": "test_auth_code_1"},
        {"state": "live"},
        {"code": "test_auth_code_1", "state": "unknown"},
        {"code": "something", "state": "live"},
    ],
)
def test_a_faulty_callback_is_400(client: AuthClient, parameters: dict[str, str]) -> None:
    client.authorize(state="live")
    answer = client.callback(**parameters)
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_a_state_works_once(client: AuthClient) -> None:
    client.authorize(state="once")
    assert client.callback(code="test_auth_code_1", state="once").status == 0
    assert client.callback(code="test_auth_code_2", state="once").error == "invalid_request"


def test_a_built_code_that_is_waiting_already_is_refused(client: AuthClient) -> None:
    for state in ("one", "two"):
        client.authorize(state=state)
    assert client.callback(code="test_auth_code_1", state="one").status == 0
    assert client.callback(code="test_auth_code_1", state="two").error == "invalid_request"


def test_rfc6749_section_4_1_2_1_a_providers_error_reaches_the_client(client: AuthClient) -> None:
    client.authorize(state="denied")
    answer = client.callback(error="access_denied", error_description="No way", state="denied")
    assert answer.parameters == {
        "error": "access_denied",
        "error_description": "No way",
        "state": "denied",
        "iss": ISSUER,
    }


def test_an_error_in_forbidden_characters_becomes_server_error(client: AuthClient) -> None:
    client.authorize(state="denied")
    answer = client.callback(error='"\n"', error_description="ä", state="denied")
    assert answer.parameters == {"error": "server_error", "state": "denied", "iss": ISSUER}


def test_states_and_codes_live_ten_minutes_and_are_not_stored_readable(service: Service) -> None:
    code = service.client.authorize(state="readable").parameters["code"]
    keys = [key.decode() for key in service.redis.scan_iter("tmi:auth:*")]
    assert len(keys) == 2
    for key in keys:
        assert code not in key
        assert 590 < service.redis.ttl(key) <= 600


def test_any_replica_finishes_a_login(start: Start) -> None:
    code = start().client.authorize().parameters["code"]
    assert start().client.exchange(code).status == 0


def test_without_redis_a_login_is_503_with_retry_after(start: Start) -> None:
    client = start(redis_url="unix:///nowhere/valkey.sock").client
    for answer in (client.authorize(), client.callback(code="test_auth_code_1", state="s"), client.exchange("code")):
        assert (answer.status, answer.error) == (503, "service_unavailable")
        assert dict(answer.headers)["retry-after"] == "30"
