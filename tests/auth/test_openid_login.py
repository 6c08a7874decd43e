"""Logins with an OpenID provider, the right ones and every wrong one we know of."""

import gzip
import hmac
import logging
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from sqlalchemy import func, select
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from deploy.embedded.valkey import EmbeddedValkey
from services.auth.directory.tables import users
from services.auth.providers import upstream_http
from services.auth.sessions.tables import login_sessions
from services.shared.log import JsonFormatter
from tests.auth.client import CALLBACK, ISSUER, Answer, Clock, Service
from tests.auth.conftest import Start
from tests.auth.openid_server import CLIENT_SECRET, SUBJECT, OpenIdServer, openid_server
from tmi.auth.v1 import oauth_pb2

METADATA = "/.well-known/openid-configuration"


@pytest.fixture
def provider() -> Iterator[OpenIdServer]:
    with openid_server() as server:
        yield server


@dataclass
class Logins:
    """Logs people in at one service with one provider, and keeps the log to look for secrets in."""

    service: Service
    provider: OpenIdServer
    idp: str = "corp"

    def begin(self, state: str = "c1ient") -> Answer:
        return self.service.client.authorize(idp=self.idp, state=state, login_hint="")

    def finish(self, begun: Answer, **changes: str) -> Answer:
        return self.service.client.callback(**{**self.provider.approve(begun.location), **changes})

    def redeem(self, finished: Answer) -> Answer:
        return self.service.client.exchange(finished.parameters["code"], idp=self.idp)

    def count(self) -> tuple[int, int]:
        """Users and login sessions."""
        return self.service.database.read(
            lambda connection: (
                connection.scalar(select(func.count()).select_from(users)) or 0,
                connection.scalar(select(func.count()).select_from(login_sessions)) or 0,
            )
        )


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.DEBUG)
    formatter = JsonFormatter("auth")
    quiet = ("httpx", "httpcore")  # `log.configure` keeps them at warnings
    return lambda: "\n".join(formatter.format(record) for record in caplog.records if not record.name.startswith(quiet))


@pytest.fixture
def logins(start: Start, provider: OpenIdServer, log: Callable[[], str]) -> Iterator[Logins]:
    """Whatever a test does, no secret of the provider may be in the log afterwards."""
    yield Logins(start(provider.configuration()), provider)
    text = log()
    assert not [secret for secret in provider.secrets if secret in text]


def refused(logins: Logins, answer: Answer, code: str) -> None:
    """The client is told so with its own state, and nobody is logged in, nor half."""
    assert answer.location.startswith(f"{CALLBACK}?")
    assert answer.parameters["error"] == code
    assert answer.parameters["error_description"]
    assert answer.parameters["state"] == "c1ient"
    assert answer.parameters["iss"] == ISSUER
    assert "code" not in answer.parameters
    assert logins.count() == (0, 0)


def test_a_login_with_pkce_state_and_nonce_of_our_own(logins: Logins) -> None:
    begun = logins.begin()
    sent = begun.parameters
    assert sent["code_challenge_method"] == "S256"
    assert sent["redirect_uri"] == "http://localhost:8080/oauth2/callback"
    assert len({sent["state"], sent["nonce"], sent["code_challenge"], "c1ient"}) == 4
    finished = logins.finish(begun)
    assert finished.location.startswith(f"{CALLBACK}?")
    assert finished.parameters.keys() == {"code", "state", "iss"}
    assert finished.parameters["state"] == "c1ient"
    granted = logins.redeem(finished)
    assert granted.status == 0
    profile = logins.service.client.profile(granted.json["access_token"]).json
    assert (profile["provider"], profile["provider_id"]) == ("corp", SUBJECT)
    assert (profile["email"], profile["display_name"]) == ("jane@example.com", "Jane Doe")
    assert logins.service.client.claims(granted.json["access_token"])["email_verified"] is True
    assert logins.service.client.refresh(granted.json["refresh_token"]).status == 0


def test_the_same_person_is_the_same_user_and_keys_are_fetched_once(logins: Logins) -> None:
    for _ in range(3):
        assert logins.redeem(logins.finish(logins.begin())).status == 0
    assert logins.count() == (1, 3)
    assert logins.provider.calls["/jwks"] == logins.provider.calls[METADATA] == 1
    assert logins.provider.calls["/userinfo"] == 0


def test_the_provider_is_listed_without_its_secret(logins: Logins) -> None:
    answer = logins.service.client.call(logins.service.client.oauth.ListProviders, oauth_pb2.ListProvidersRequest())
    assert [provider["id"] for provider in answer.json["providers"]] == ["corp", "tmi"]
    assert answer.json["providers"][0]["name"] == "Corp"


def test_what_the_id_token_leaves_out_comes_from_userinfo(logins: Logins) -> None:
    logins.provider.claims = {"email": None, "email_verified": None, "name": None}
    profile = logins.service.client.profile(logins.redeem(logins.finish(logins.begin())).json["access_token"]).json
    assert (profile["email"], profile["display_name"]) == ("jane@example.com", "Jane Doe")


def test_userinfo_about_somebody_else_is_refused(logins: Logins) -> None:
    logins.provider.claims = {"email": None}
    logins.provider.userinfo = {"sub": "another"}
    refused(logins, logins.finish(logins.begin()), "provider_response_invalid")


def test_userinfo_does_not_verify_another_address(logins: Logins) -> None:
    logins.provider.claims = {"email": "ceo@example.com", "email_verified": None, "name": None}
    granted = logins.redeem(logins.finish(logins.begin()))
    claims = logins.service.client.claims(granted.json["access_token"])
    assert claims["email"] == "ceo@example.com"
    assert "email_verified" not in claims


@pytest.mark.parametrize("address", [None, "", "no address", "a@b\u202e.example", 7, "x" * 320 + "@example.com"])
def test_somebody_without_an_address_gets_one_of_nobody(logins: Logins, address: object) -> None:
    logins.provider.claims = {"email": address}
    logins.provider.userinfo = {"email": None}
    granted = logins.redeem(logins.finish(logins.begin()))
    claims = logins.service.client.claims(granted.json["access_token"])
    assert claims["email"] == f"{SUBJECT}@corp.oauth.tmi"
    assert "email_verified" not in claims


NOW = int(time.time())
BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://accounts.example.com"},
    "an issuer with a slash more": {"iss": None},
    "another audience": {"aud": "somebody else"},
    "no audience": {"aud": None},
    "several audiences without azp": {"aud": ["tmi at the provider", "other"]},
    "azp of another client": {"azp": "other"},
    "another nonce": {"nonce": "0" * 43},
    "no nonce": {"nonce": None},
    "expired": {"exp": NOW - 120},
    "without an end": {"exp": None},
    "an end that is no number": {"exp": "tomorrow"},
    "issued in the future": {"iat": NOW + 3600},
    "without iat": {"iat": None},
    "not valid yet": {"nbf": NOW + 3600},
    "at_hash of another access token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    "no subject": {"sub": None},
    "empty subject": {"sub": ""},
    "a subject of control characters": {"sub": "a\u0000b"},
    "a subject without end": {"sub": "s" * 501},
}


@pytest.mark.parametrize("fault", BAD_CLAIMS)
def test_an_id_token_with_a_wrong_claim_is_refused(logins: Logins, fault: str, log: Callable[[], str]) -> None:
    logins.provider.claims = BAD_CLAIMS[fault] if "slash" not in fault else {"iss": f"{logins.provider.url}/"}
    refused(logins, logins.finish(logins.begin()), "provider_response_invalid")
    (line,) = [line for line in map(orjson.loads, log().splitlines()) if line["msg"] == "login failed"]
    assert line["provider"] == "corp"
    assert "ID token" in line["reason"] or "who logged in" in line["reason"]


def _segments(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(urlsafe_b64encode(orjson.dumps(part)).decode().rstrip("=") for part in (header, claims))


def _with_hmac(provider: OpenIdServer, claims: dict[str, Any], secret: bytes) -> str:
    text = _segments({"alg": "HS256", "kid": provider.key.kid}, claims)
    signature = hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(signature).decode().rstrip('=')}"


def _unsigned(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    return f"{_segments({'alg': 'none'}, claims)}."


def _hmac_of_public_key(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    assert isinstance(provider.key, ECKey)
    return _with_hmac(provider, claims, provider.key.as_pem(private=False))


def _hmac_of_secret(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    return _with_hmac(provider, claims, CLIENT_SECRET.encode())


def _another_key_of_that_name(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    header = {"alg": "ES256", "kid": provider.key.kid}
    return jwt.encode(header, claims, ECKey.generate_key("P-256"), algorithms=["ES256"])


def _key_in_the_header(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    key = ECKey.generate_key("P-256", {"kid": "mine"})
    header = {"alg": "ES256", "kid": "mine", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key, algorithms=["ES256"])


def _critical(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    token = provider.signed(claims)
    return token.replace(token.split(".")[0], "eyJhbGciOiJFUzI1NiIsImtpZCI6ImZpcnN0IiwiY3JpdCI6WyJ4Il0sIngiOjF9")


def _changed_payload(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    header, _, signature = provider.signed(claims).split(".")
    return ".".join([header, provider.signed({**claims, "sub": "admin"}).split(".")[1], signature])


def _garbage(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    return "ä.b.c"


def _two_parts(provider: OpenIdServer, claims: dict[str, Any]) -> str:
    return provider.signed(claims).rpartition(".")[0]


@pytest.mark.parametrize(
    "forge",
    [
        *(_unsigned, _hmac_of_public_key, _hmac_of_secret, _another_key_of_that_name, _key_in_the_header),
        *(_critical, _changed_payload, _garbage, _two_parts),
    ],
)
def test_rfc8725_a_forged_id_token_is_refused(
    logins: Logins, forge: Callable[[OpenIdServer, dict[str, Any]], str]
) -> None:
    logins.provider.sign = lambda claims: forge(logins.provider, claims)
    refused(logins, logins.finish(logins.begin()), "provider_response_invalid")


def test_an_algorithm_that_the_provider_does_not_announce_is_refused(logins: Logins) -> None:
    logins.provider.metadata = {"id_token_signing_alg_values_supported": ["RS256"]}
    refused(logins, logins.finish(logins.begin()), "provider_response_invalid")


@pytest.mark.parametrize(
    "changes", [{"issuer": "https://accounts.example.com"}, {"token_endpoint": "http://192.0.2.1/token"}]
)
def test_metadata_of_another_issuer_or_without_tls_is_refused(logins: Logins, changes: dict[str, str]) -> None:
    logins.provider.metadata = changes
    refused(logins, logins.begin(), "provider_response_invalid")


def test_a_new_key_is_fetched_once_and_then_not_before_the_cool_down(logins: Logins, clock: Clock) -> None:
    assert logins.redeem(logins.finish(logins.begin())).status == 0
    provider = logins.provider
    provider.key = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
    assert logins.redeem(logins.finish(logins.begin())).status == 0
    assert provider.calls["/jwks"] == 2
    published, provider.key = provider.key, RSAKey.generate_key(2048, {"kid": "third", "use": "sig"})
    provider.keys = [published]
    for _ in range(3):
        assert logins.finish(logins.begin()).parameters["error"] == "provider_response_invalid"
    assert provider.calls["/jwks"] == 2
    provider.keys = [provider.key]
    clock.advance(seconds=31)
    provider.claims = {"exp": int(clock().timestamp()) + 60}
    assert logins.redeem(logins.finish(logins.begin())).status == 0
    assert provider.calls["/jwks"] == 3


def _large() -> Response:
    def parts() -> Iterator[bytes]:
        yield b'{"a": "'
        for _ in range(10):
            yield b"a" * 1024 * 1024
        yield b'"}'

    return StreamingResponse(parts(), media_type="application/json")


def _slow() -> Response:
    def parts() -> Iterator[bytes]:
        yield b"{"
        threading.Event().wait(1)
        yield b"}"

    return StreamingResponse(parts())


FAULTS: dict[str, tuple[Callable[[], Response], str]] = {
    "500": (lambda: Response("down", 500), "temporarily_unavailable"),
    "slow": (_slow, "temporarily_unavailable"),
    "garbage": (lambda: Response("<html>"), "provider_response_invalid"),
    "a list": (lambda: JSONResponse([]), "provider_response_invalid"),
    "10 MB": (_large, "provider_response_invalid"),
    "a redirect": (lambda: RedirectResponse("http://127.0.0.1:9/"), "provider_response_invalid"),
    "a bomb": (
        lambda: Response(gzip.compress(b"{" + b" " * 10_000_000 + b"}"), headers={"content-encoding": "gzip"}),
        "provider_response_invalid",
    ),
    "not UTF-8": (lambda: Response(b'{"error": "\xff"}', 400), "provider_response_invalid"),
}


@pytest.mark.parametrize("path", [METADATA, "/jwks", "/token", "/userinfo"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_provider_that_fails_is_an_error_for_the_client_and_a_line_in_the_log(
    start: Start, provider: OpenIdServer, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch, fault: str, path: str
) -> None:
    monkeypatch.setattr(upstream_http, "TIMEOUT_SECONDS", 0.3)
    logins = Logins(start(provider.configuration()), provider)
    provider.answers[path], code = FAULTS[fault]
    provider.claims = {"email": None}
    begun = logins.begin()
    refused(logins, begun if path == METADATA else logins.finish(begun), code)
    assert provider.url in next(line for line in log().splitlines() if '"login failed"' in line)


def test_a_cookie_of_the_provider_does_not_reach_the_next_login(logins: Logins) -> None:
    provider = logins.provider
    provider.claims = {"email": None}
    provider.answers["/userinfo"] = lambda: JSONResponse(
        {"sub": SUBJECT}, headers={"set-cookie": "session=of-somebody; Path=/"}
    )
    for _ in range(2):
        assert logins.redeem(logins.finish(logins.begin())).status == 0
    assert provider.calls["/userinfo"] == 2
    assert provider.cookies == []


def test_a_provider_that_is_down_is_left_alone_for_a_while_and_then_tried_again(logins: Logins, clock: Clock) -> None:
    provider = logins.provider
    provider.answers[METADATA] = lambda: Response(status_code=503)
    for _ in range(3):
        refused(logins, logins.begin(), "temporarily_unavailable")
    assert provider.calls[METADATA] == 1
    del provider.answers[METADATA]
    clock.advance(seconds=31)
    assert logins.begin().location.startswith(provider.url)
    clock.advance(hours=2)
    provider.answers[METADATA] = lambda: Response(status_code=503)
    assert logins.begin().location.startswith(provider.url), "what is known of it is used while it is down"


def test_slow_providers_do_not_take_the_threads_of_everybody(start: Start, provider: OpenIdServer) -> None:
    logins = Logins(start(provider.configuration(), grpc_workers=3), provider)
    first, second = logins.begin(), logins.begin()
    reached, go_on = threading.Event(), threading.Event()

    def hanging() -> Response:
        reached.set()
        assert go_on.wait(30)
        return Response(status_code=500)

    provider.answers["/token"] = hanging
    thread = threading.Thread(target=logins.finish, args=(first,))
    thread.start()
    assert reached.wait(30)
    refused(logins, logins.finish(second), "temporarily_unavailable")
    assert provider.calls["/token"] == 1
    go_on.set()
    thread.join()


@pytest.mark.parametrize("change", [{"client_secret": "another"}, {"client_id": "somebody"}])
def test_a_client_that_the_provider_does_not_know_is_told_in_the_log(
    start: Start, provider: OpenIdServer, log: Callable[[], str], change: dict[str, str]
) -> None:
    logins = Logins(start(provider.configuration(**change)), provider)
    begun = logins.begin()
    begun.headers = [("location", begun.location.replace("somebody", "tmi+at+the+provider"))]
    refused(logins, logins.finish(begun), "access_denied")
    assert "the token endpoint says invalid_client" in log()


def test_a_code_that_the_provider_does_not_know_is_refused(logins: Logins) -> None:
    refused(logins, logins.finish(logins.begin(), code="stolen-upstream-code"), "access_denied")


def test_a_redirect_uri_that_differs_by_one_character_is_refused(logins: Logins) -> None:
    begun = logins.begin()
    changed = begun.location.replace("oauth2%2Fcallback", "oauth2%2Fcallback%2F")
    assert changed != begun.location
    begun.headers = [("location", changed)]
    refused(logins, logins.finish(begun), "access_denied")
    finished = logins.finish(logins.begin())
    answer = logins.service.client.exchange(finished.parameters["code"], idp="corp", redirect_uri=f"{CALLBACK}/")
    assert (answer.status, answer.error) == (400, "invalid_grant")
    assert logins.count() == (0, 0)


def test_a_state_and_a_code_work_once(logins: Logins) -> None:
    begun = logins.begin()
    parameters = logins.provider.approve(begun.location)
    finished = logins.service.client.callback(**parameters)
    again = logins.service.client.callback(**parameters)
    assert (again.status, again.error) == (400, "invalid_request")
    granted = logins.redeem(finished)
    assert granted.status == 0
    replayed = logins.redeem(finished)
    assert (replayed.status, replayed.error) == (400, "invalid_grant")
    assert logins.service.client.refresh(granted.json["refresh_token"]).error == "invalid_grant"


def test_the_state_of_the_client_is_no_state_of_ours(logins: Logins) -> None:
    parameters = logins.provider.approve(logins.begin().location)
    answer = logins.service.client.callback(**{**parameters, "state": "c1ient"})
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_two_logins_of_one_client_state_do_not_disturb_each_other(logins: Logins) -> None:
    first, second = logins.begin(), logins.begin()
    assert logins.redeem(logins.finish(first)).status == 0
    assert logins.redeem(logins.finish(second)).status == 0


def test_two_providers_are_not_mixed_up(start: Start, provider: OpenIdServer) -> None:
    with openid_server() as evil:
        service = start(provider.configuration("corp"), evil.configuration("evil"))
        honest, other = Logins(service, provider), Logins(service, evil, "evil")
        code = provider.approve(honest.begin().location)["code"]
        # The code of one with the state of the other, with and without the issuer that gives it away.
        for issuer in (provider.url, "", f"{evil.url}/"):
            begun = other.begin()
            refused(other, other.finish(begun, code=code, iss=issuer), "provider_response_invalid")
        assert evil.calls["/token"] == 0, "the code must not reach the other provider"
        finished = honest.finish(honest.begin())
        answer = service.client.exchange(finished.parameters["code"], idp="evil")
        assert (answer.status, answer.error) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("sent", "told"),
    [("access_denied", "access_denied"), ("consent_required", "consent_required"), ('"\n', "server_error")],
)
def test_an_error_of_the_provider_is_handed_to_the_client(logins: Logins, sent: str, told: str) -> None:
    state = logins.begin().parameters["state"]
    answer = logins.service.client.callback(
        error=sent, error_description="Not today.", state=state, iss=logins.provider.url
    )
    refused(logins, answer, told)
    assert answer.parameters["error_description"] == "Not today."


def test_an_error_that_names_another_issuer_is_not_handed_on(logins: Logins) -> None:
    state = logins.begin().parameters["state"]
    answer = logins.service.client.callback(error="access_denied", state=state, iss="https://evil.example")
    refused(logins, answer, "provider_response_invalid")


@pytest.mark.parametrize("verified", [True, False])
def test_the_address_of_a_user_of_another_provider_is_a_conflict(
    start: Start, provider: OpenIdServer, verified: bool
) -> None:
    with openid_server() as second:
        service = start(provider.configuration("corp"), second.configuration("other"))
        owner, intruder = Logins(service, provider), Logins(service, second, "other")
        assert owner.redeem(owner.finish(owner.begin())).status == 0
        second.claims = {"sub": "intruder", "email_verified": verified}
        answer = intruder.finish(intruder.begin())
        assert answer.parameters["error"] == "account_conflict"
        assert "code" not in answer.parameters
        assert owner.count() == (1, 1)


def test_groups_of_the_configured_claim_are_those_of_the_session(start: Start, provider: OpenIdServer) -> None:
    service = start(provider.configuration(userinfo_claims={"groups_claim": "groups"}))
    logins = Logins(service, provider)
    service.client.log_in()  # the first user of a development build is its administrator
    provider.claims = {"groups": ["staff", "administrators", "staff", 7, "", "x" * 501]}
    access_token = logins.redeem(logins.finish(logins.begin())).json["access_token"]
    claims = service.client.claims(access_token)
    assert claims["groups"] == ["staff", "administrators"]
    assert claims["tmi_is_administrator"] is False
    of_session = select(login_sessions.c.provider_groups).where(login_sessions.c.id == claims["sid"])
    stored = service.database.read(lambda connection: connection.scalar(of_session))
    assert stored == ["staff", "administrators"]


TENANT = "0b3f6f3e-6f0d-4d55-9a43-1de2b7b1c2aa"
OTHER_TENANT = "99999999-6f0d-4d55-9a43-1de2b7b1c2aa"


@pytest.mark.parametrize(
    ("tenant", "issued_by", "tid", "accepted"),
    [
        ("common", TENANT, TENANT, True),
        ("common", OTHER_TENANT, TENANT, False),
        ("common", "{tenantid}", "{tenantid}", False),
        ("common", TENANT, None, False),
        (TENANT, TENANT, TENANT, True),
        (TENANT, OTHER_TENANT, OTHER_TENANT, False),
        ("organizations", "9188040d-6c67-4c5b-b112-36a304b66dad", "9188040d-6c67-4c5b-b112-36a304b66dad", False),
    ],
)
def test_the_issuer_of_a_provider_with_tenants(
    start: Start, provider: OpenIdServer, tenant: str, issued_by: str, tid: str | None, accepted: bool
) -> None:
    template = f"{provider.url}/{{tenantid}}/v2.0"
    path = f"/{tenant}/v2.0{METADATA}"
    provider.metadata = {
        "issuer": template if len(tenant) != 36 else template.replace("{tenantid}", tenant),
        "authorization_response_iss_parameter_supported": None,
    }
    provider.claims = {"iss": template.replace("{tenantid}", issued_by), "tid": tid}
    names = {"email_verified_claim": "xms_edov"}
    service = start(provider.configuration(issuer=template, tenant=tenant, userinfo_claims=names))
    logins = Logins(service, provider)
    begun = logins.begin()
    assert provider.calls[path] == 1
    finished = logins.finish(begun, iss="")
    assert ("code" in finished.parameters) is accepted
    if accepted:
        claims = service.client.claims(logins.redeem(finished).json["access_token"])
        assert "email_verified" not in claims, "a tenant writes email_verified itself: only xms_edov counts"


@pytest.mark.parametrize(
    ("edov", "verified"), [(True, True), ("1", True), (1, True), (False, False), ("0", False), (0, False)]
)
def test_xms_edov_verifies_an_address(start: Start, provider: OpenIdServer, edov: object, verified: bool) -> None:
    service = start(provider.configuration(userinfo_claims={"email_verified_claim": "xms_edov"}))
    logins = Logins(service, provider)
    provider.claims = {"xms_edov": edov, "email_verified": True}
    claims = service.client.claims(logins.redeem(logins.finish(logins.begin())).json["access_token"])
    assert claims.get("email_verified", False) is verified


def test_an_operator_may_vouch_for_the_addresses(start: Start, provider: OpenIdServer) -> None:
    logins = Logins(start(provider.configuration(email_is_verified=True)), provider)
    provider.claims = {"email_verified": None}
    claims = logins.service.client.claims(logins.redeem(logins.finish(logins.begin())).json["access_token"])
    assert claims["email_verified"] is True


def test_redis_lost_in_the_middle_of_a_login(start: Start, provider: OpenIdServer, tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path / "valkey")
    try:
        logins = Logins(start(provider.configuration(), redis_url=valkey.url), provider)
        before, during = logins.begin(), logins.begin()

        def lost() -> Response:
            valkey.stop()
            del provider.answers["/jwks"]
            return JSONResponse({"keys": [provider.key.as_dict(private=False)]})

        provider.answers["/jwks"] = lost
        refused(logins, logins.finish(during), "temporarily_unavailable")
        answer = logins.finish(before)
        assert (answer.status, answer.error) == (503, "service_unavailable")
        assert logins.begin().error == "service_unavailable"
        assert logins.count() == (0, 0)
    finally:
        valkey.stop()
