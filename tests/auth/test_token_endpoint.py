from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from services.auth.directory import users
from services.auth.directory.groups import add_member
from services.auth.directory.tables import users as users_table
from services.shared import jwt
from services.shared.principal import ADMINISTRATORS_GROUP_ID
from tests.auth.client import CALLBACK, Answer, AuthClient, Clock, Service, counted_statements
from tests.auth.conftest import Start
from tests.auth.storage import at_once
from tmi.auth.v1.directory_pb2 import ListRevocationsRequest, RevocationKind


def code_for(client: AuthClient, name: str = "alice") -> str:
    return client.authorize(login_hint=name).parameters["code"]


def assert_invalid_grant(answer: Answer) -> None:
    assert (answer.status, answer.error) == (400, "invalid_grant")


# --- authorization_code


@pytest.mark.parametrize("form", [False, True])
def test_rfc6749_section_5_1_a_code_gives_tokens_and_cookies(client: AuthClient, form: bool) -> None:
    answer = client.exchange(code_for(client), form=form)
    assert answer.json.keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert answer.json["token_type"] == "bearer"
    assert answer.json["expires_in"] == 3600
    access, refresh = answer.cookies
    assert access.startswith(f"tmi_access_token={answer.json['access_token']}; Max-Age=3600; Path=/; ")
    assert refresh.startswith(f"tmi_refresh_token={answer.json['refresh_token']}; Max-Age=604800; Path=/oauth2; ")


def test_the_access_token_says_who_logged_in(client: AuthClient) -> None:
    claims = client.claims(client.log_in("alice").access)
    assert (claims["idp"], claims["sub"], claims["email"]) == ("tmi", "alice", "alice@tmi.local")
    assert claims["name"] == "Alice (TMI User)"
    assert claims["auth_time"] == claims["iat"]


def test_the_web_clients_state_field_is_accepted(client: AuthClient) -> None:
    assert client.exchange(code_for(client), state="f00d").status == 0


@pytest.mark.parametrize("missing", ["code", "code_verifier", "redirect_uri"])
def test_rfc6749_section_4_1_3_required_parameters(client: AuthClient, missing: str) -> None:
    parameters: dict[str, Any] = {"code": "c", "code_verifier": "v" * 43, "redirect_uri": CALLBACK}
    del parameters[missing]
    answer = client.token(grant_type="authorization_code", **parameters)
    assert (answer.status, answer.error) == (400, "invalid_request")


@pytest.mark.parametrize("verifier", ["v" * 42, "v" * 42 + " "])
def test_an_ill_formed_verifier_is_invalid_request_and_leaves_the_code(client: AuthClient, verifier: str) -> None:
    code = code_for(client)
    assert client.exchange(code, verifier=verifier).error == "invalid_request"
    assert client.exchange(code).status == 0


def test_rfc6749_section_4_1_3_redirect_uri_must_be_the_callback(client: AuthClient) -> None:
    code = code_for(client)
    assert_invalid_grant(client.exchange(code, redirect_uri=CALLBACK + "/"))
    assert_invalid_grant(client.exchange(code))


def test_rfc7636_section_4_6_a_wrong_verifier_burns_the_code(client: AuthClient) -> None:
    code = code_for(client)
    assert_invalid_grant(client.exchange(code, verifier="w" * 43))
    assert_invalid_grant(client.exchange(code))


def test_a_code_is_bound_to_its_provider(service: Service) -> None:
    code = code_for(service.client)
    (key,) = service.redis.scan_iter("tmi:auth:code:*")
    stored = service.redis.get(key)
    assert isinstance(stored, bytes)
    service.redis.set(key, stored.replace(b'"provider":"tmi"', b'"provider":"other"'))
    assert_invalid_grant(service.client.exchange(code))


def test_rfc6749_section_4_1_2_a_code_used_twice_ends_what_it_opened(client: AuthClient) -> None:
    code = code_for(client)
    granted = client.exchange(code).json
    assert_invalid_grant(client.exchange(code))
    assert_invalid_grant(client.refresh(granted["refresh_token"]))


def test_of_two_exchanges_at_once_one_wins(client: AuthClient) -> None:
    code = code_for(client)
    answers = at_once(lambda: client.exchange(code), 2)
    assert sorted(answer.status for answer in answers) == [0, 400]


def test_an_invalid_hint_in_a_built_code_is_invalid_grant(client: AuthClient) -> None:
    client.authorize(state="s")
    code = client.callback(code="test_auth_code_1_hint_YS5i", state="s").parameters["code"]
    answer = client.exchange(code)
    assert_invalid_grant(answer)
    assert "3 to 20" in answer.json["error_description"]


def test_a_built_code_that_is_not_base64_is_invalid_grant(client: AuthClient) -> None:
    client.authorize(state="s")
    code = client.callback(code="test_auth_code_1_hint_A", state="s").parameters["code"]
    assert_invalid_grant(client.exchange(code))


@pytest.mark.parametrize("form", [False, True])
@pytest.mark.parametrize("grant_type", ["client_credentials", "password"])
def test_rfc6749_section_5_2_unsupported_grant_type(client: AuthClient, grant_type: str, form: bool) -> None:
    answer = client.token(grant_type=grant_type, form=form)
    assert (answer.status, answer.error) == (400, "unsupported_grant_type")


def test_an_unknown_parameter_is_invalid_request(client: AuthClient) -> None:
    assert client.token(grant_type="refresh_token", extra="x").error == "invalid_request"


def test_an_email_bound_to_another_provider_is_account_conflict(service: Service) -> None:
    service.client.log_in("alice")
    bound = {"provider": "google", "provider_id": "42", "email_verified": True}
    service.database.write(lambda c: c.execute(update(users_table).values(**bound)))
    answer = service.client.exchange(code_for(service.client))
    assert (answer.status, answer.error) == (409, "account_conflict")


def test_a_login_that_another_one_of_the_same_identity_crossed_is_tried_again(
    client: AuthClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_login = users.record_login
    crossings = iter([IntegrityError("INSERT", {}, Exception("duplicate key"))])

    def crossed(*arguments: Any) -> users.User:
        for error in crossings:
            raise error
        return record_login(*arguments)

    monkeypatch.setattr(users, "record_login", crossed)
    assert client.exchange(code_for(client)).status == 0


# --- refresh


def test_rfc6749_section_6_a_refresh_rotates_and_keeps_the_session(client: AuthClient, clock: Clock) -> None:
    tokens = client.log_in()
    before = client.claims(tokens.access)
    clock.advance(minutes=10)
    answer = client.refresh(tokens.refresh)
    after = client.claims(answer.json["access_token"])
    assert answer.json["refresh_token"] != tokens.refresh
    assert len(answer.cookies) == 2
    assert (after["sid"], after["auth_time"]) == (before["sid"], before["auth_time"])
    assert after["iat"] - before["iat"] >= 600
    assert after["jti"] != before["jti"]


def test_the_refresh_grant_of_the_token_endpoint_is_the_same(client: AuthClient) -> None:
    tokens = client.log_in()
    body = client.token(grant_type="refresh_token", refresh_token=tokens.refresh)
    cookie = client.token(grant_type="refresh_token", cookie=body.json["refresh_token"])
    assert cookie.status == 0


def test_the_cookie_serves_when_the_body_has_no_token(client: AuthClient) -> None:
    tokens = client.log_in()
    assert client.refresh(cookie=tokens.refresh).status == 0


def test_the_body_comes_before_the_cookie(client: AuthClient) -> None:
    tokens = client.log_in()
    assert client.refresh(tokens.refresh, cookie="other").status == 0


def test_no_refresh_token_is_invalid_request(client: AuthClient) -> None:
    assert client.refresh().error == "invalid_request"
    assert client.token(grant_type="refresh_token").error == "invalid_request"


def test_an_unknown_refresh_token_is_invalid_grant_and_clears_the_cookies(client: AuthClient) -> None:
    answer = client.refresh("unknown")
    assert_invalid_grant(answer)
    assert answer.json["error_description"]
    assert [cookie.partition("=")[0] for cookie in answer.cookies] == ["tmi_access_token", "tmi_refresh_token"]
    assert all("Max-Age=0" in cookie for cookie in answer.cookies)


def test_roles_and_groups_are_recomputed(service: Service) -> None:
    client = service.client
    client.log_in()
    tokens = client.log_in()
    claims = client.claims(tokens.access)
    assert claims["tmi_is_administrator"] is False
    assert "groups" not in claims
    service.database.write(
        lambda connection: add_member(connection, [ADMINISTRATORS_GROUP_ID], claims["tmi_user_id"], service.clock())
    )
    claims = client.claims(client.refresh(tokens.refresh).json["access_token"])
    assert claims["tmi_is_administrator"] is True
    assert claims["groups"] == ["administrators"]


def test_no_refresh_goes_beyond_the_end_of_the_session(start: Start, clock: Clock) -> None:
    client = start(session_lifetime_days=2, refresh_token_days=7).client
    token = client.log_in().refresh
    clock.advance(hours=47, minutes=30)
    answer = client.refresh(token)
    assert answer.json["expires_in"] in (1799, 1800)
    clock.advance(minutes=31)
    assert_invalid_grant(client.refresh(answer.json["refresh_token"]))


# --- revoke


def test_rfc7009_section_2_1_a_refresh_token_is_revoked_with_its_session(client: AuthClient) -> None:
    tokens = client.log_in()
    answer = client.revoke(tokens.access, token=tokens.refresh, token_type_hint="refresh_token")
    assert answer.json == {}
    assert all("Max-Age=0" in cookie for cookie in answer.cookies)
    assert_invalid_grant(client.refresh(tokens.refresh))
    (revocation,) = client.directory.ListRevocations(ListRevocationsRequest()).revocations
    assert revocation.kind == RevocationKind.REVOCATION_KIND_SESSION


@pytest.mark.parametrize("form", [False, True])
def test_rfc7009_section_2_1_an_access_token_is_revoked(client: AuthClient, form: bool) -> None:
    tokens = client.log_in()
    claims = client.claims(tokens.access)
    assert client.revoke(tokens.access, form=form, token=tokens.access).json == {}
    (revocation,) = client.directory.ListRevocations(ListRevocationsRequest()).revocations
    assert (revocation.kind, revocation.id) == (RevocationKind.REVOCATION_KIND_TOKEN, claims["jti"])
    assert revocation.expires_at >= claims["exp"]


def test_rfc7009_section_2_2_unknown_tokens_and_those_of_others_are_200_and_untouched(client: AuthClient) -> None:
    mine, other = client.log_in(), client.log_in()
    for token in ("unknown", other.access, other.refresh):
        answer = client.revoke(mine.access, token=token)
        assert (answer.status, answer.json) == (0, {})
    assert len(client.directory.ListRevocations(ListRevocationsRequest()).revocations) == 0
    assert client.refresh(other.refresh).status == 0


def test_a_caller_who_proves_nothing_is_invalid_client(client: AuthClient) -> None:
    tokens = client.log_in()
    for bearer in ("", "forged", tokens.access[:-4] + "AAAA", f"{tokens.access} x"):
        answer = client.revoke(bearer, token=tokens.refresh)
        assert (answer.status, answer.error) == (401, "invalid_client")
        assert dict(answer.headers)["www-authenticate"].startswith("Bearer")
    assert client.refresh(tokens.refresh).status == 0


@pytest.mark.parametrize(
    "change",
    [
        {"tmi_user_id": "alice"},
        {"sid": "session"},
        {"sid": None},
        {"jti": 7},
        {"jti": ["a"]},
        {"iat": -(2**62)},
        {"exp": 2**62},
    ],
    ids=str,
)
def test_signed_claims_that_mean_nobody_are_invalid_client(service: Service, change: dict[str, Any]) -> None:
    tokens = service.client.log_in()
    key = service.keys.signer()
    claims = service.client.claims(tokens.access) | change
    forged = jwt.sign(claims, kid=key.kid, algorithm=key.algorithm, key=key.signing_material)
    answer = service.client.revoke(forged, token=tokens.refresh)
    assert (answer.status, answer.error) == (401, "invalid_client")
    assert service.client.revoke(tokens.access, token=forged).status == 0
    assert service.client.refresh(tokens.refresh).status == 0


def test_client_credentials_do_not_prove_anything_yet(client: AuthClient) -> None:
    assert client.revoke("", token="x", client_id="tmi_cc_x", client_secret="y").error == "invalid_client"


def test_an_expired_token_does_not_authenticate(client: AuthClient, clock: Clock) -> None:
    tokens = client.log_in()
    clock.advance(seconds=3601)
    assert client.revoke(tokens.access, token=tokens.refresh).error == "invalid_client"


def test_a_revoked_token_does_not_authenticate(client: AuthClient) -> None:
    first, second = client.log_in(), client.log_in()
    client.revoke(first.access, token=first.access)
    client.log_out(second.access)
    for tokens in (first, second):
        assert client.revoke(tokens.access, token="x").error == "invalid_client"


def test_a_revocation_needs_a_token(client: AuthClient) -> None:
    tokens = client.log_in()
    faulty: list[dict[str, Any]] = [
        {},
        {"token": ""},
        {"token": "x", "unknown": "y"},
        {"token": "x", "token_type_hint": "jwt"},
    ]
    for parameters in faulty:
        answer = client.revoke(tokens.access, **parameters)
        assert (answer.status, answer.error) == (400, "invalid_request")


# --- cost


def test_a_login_costs_at_most_ten_statements(service: Service) -> None:
    for name in ("first-user", "second-user", "second-user"):
        code = code_for(service.client, name)
        with counted_statements(service.database) as statements:
            assert service.client.exchange(code).status == 0
        assert len(statements) <= 10, statements


def test_a_refresh_costs_at_most_six_statements(service: Service) -> None:
    tokens = service.client.log_in()
    with counted_statements(service.database) as statements:
        assert service.client.refresh(tokens.refresh).status == 0
    assert len(statements) <= 6
