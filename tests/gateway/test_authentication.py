import time
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest

from gateway import signing_keys
from services.shared import jwt
from tests.gateway.conftest import ClientFactory
from tests.gateway.echo_services import USER_ID, EchoServices, Signer
from tmi.auth.v1.directory_pb2 import ResolveSessionResponse

pytestmark = pytest.mark.anyio

NOW = int(time.time())


async def _status(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
    response = await client.get("/me", headers=headers)
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="tmi"')
        assert response.json()["error"] == "unauthorized"
    return response.status_code


async def test_the_principal_reaches_the_service(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.session = ResolveSessionResponse(is_administrator=True)
    session_id = str(uuid4())
    headers = services.authorization(sub="sa:1:alice", sid=session_id, exp=NOW + 36_000)
    assert await _status(client, headers) == 200
    principal = services.last.call.principal
    assert principal is not None
    assert (principal.user_id, principal.provider, principal.provider_id) == (USER_ID, "tmi", "sa:1:alice")
    assert principal.is_administrator
    assert principal.is_service_account
    assert (principal.token_id, principal.session_id, principal.expires_at) == ("token-1", session_id, NOW + 36_000)


async def test_a_client_cannot_bring_its_own_principal(client: httpx.AsyncClient, services: EchoServices) -> None:
    await client.get("/oauth2/providers", headers={"x-tmi-principal-bin": "AAAA", "x-tmi-public-url": "http://evil"})
    assert services.last.call.principal is None
    assert services.last.call.public_url == "http://gateway.test"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_has_no_case(client: httpx.AsyncClient, services: EchoServices, scheme: str) -> None:
    assert await _status(client, {"Authorization": f"{scheme} {services.signer.token()}"}) == 200


async def test_the_cookie_is_read_when_there_is_no_header(client: httpx.AsyncClient, services: EchoServices) -> None:
    assert await _status(client, {"Cookie": f"a=b; tmi_access_token={services.signer.token()}"}) == 200
    assert await _status(client, {"Cookie": "tmi_access_token="}) == 401
    assert await _status(client, {"Cookie": "tmi_access_token=x"}) == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer  x", "Bearer a b", "Token x", "x"])
async def test_a_malformed_header_never_falls_back_to_the_cookie(
    client: httpx.AsyncClient, services: EchoServices, header: str
) -> None:
    cookie = f"tmi_access_token={services.signer.token()}"
    assert await _status(client, {"Authorization": header, "Cookie": cookie}) == 401


@pytest.mark.parametrize(
    "token", ["x", "a.b.c", "e30.e30.e30", "bnVsbA.e30.", "eyJraWQiOjV9.e30.", "é.é.é", "x" * 20_000, "!.!.!"]
)
async def test_garbage_is_refused(client: httpx.AsyncClient, token: str) -> None:
    assert await _status(client, {"Authorization": b"Bearer " + token.encode("latin-1")}) == 401  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "change",
    [
        {"tmi_user_id": "alice"},
        {"tmi_user_id": 7},
        {"sid": "session"},
        {"sid": ["5d0f0c3e-0000-4000-8000-00000000000a"]},
        {"jti": 7},
        {"jti": {"a": "b"}},
        {"sub": 7},
        {"email": 7},
        {"auth_time": "now"},
        {"auth_time": 2**80},
        {"exp": 2**62},
        {"iat": -(2**62)},
    ],
    ids=str,
)
async def test_signed_claims_that_mean_nobody_are_refused(
    client: httpx.AsyncClient, services: EchoServices, change: dict[str, Any]
) -> None:
    assert await _status(client, services.authorization(**change)) == 401


async def test_what_is_wrong_is_not_told(client: httpx.AsyncClient, services: EchoServices) -> None:
    bodies = {
        (await client.get("/me", headers=headers)).text
        for headers in (
            {},
            {"Authorization": "Bearer x"},
            services.authorization(exp=NOW - 5),
            services.authorization(iss="http://other"),
            services.authorization(email=None),
        )
    }
    assert len(bodies) == 1


async def test_an_absent_token_is_not_called_invalid(client: httpx.AsyncClient) -> None:
    assert "error=" not in (await client.get("/me")).headers["WWW-Authenticate"]
    response = await client.get("/me", headers={"Authorization": "Bearer x"})
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


async def test_a_public_operation_ignores_tokens(client: httpx.AsyncClient, services: EchoServices) -> None:
    response = await client.post("/oauth2/revoke", headers={"Authorization": "Bearer broken"})
    assert response.status_code == 200
    assert services.last.request["authorization"] == "Bearer broken"


async def test_a_token_that_expires_stops_working_from_the_cache_too(
    client: httpx.AsyncClient, services: EchoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = services.authorization()
    assert await _status(client, headers) == 200
    later = time.time() + 700.0
    monkeypatch.setattr("gateway.tokens.time.time", lambda: later)
    assert await _status(client, headers) == 401
    assert await _status(client, headers) == 401


async def test_a_token_is_verified_once(
    client: httpx.AsyncClient, services: EchoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = services.authorization()
    assert await _status(client, headers) == 200
    monkeypatch.setattr("gateway.tokens.jwt.verify", None)
    assert await _status(client, headers) == 200


async def test_the_cache_is_bounded(
    open_client: ClientFactory, services: EchoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.tokens.CACHED_TOKENS", 2)
    verified: list[str] = []
    verify = jwt.verify

    def count_and_verify(token: str, *args: Any, **more: Any) -> dict[str, Any]:
        verified.append(token)
        return verify(token, *args, **more)

    monkeypatch.setattr("gateway.tokens.jwt.verify", count_and_verify)
    tokens = [services.authorization(jti=str(number)) for number in range(3)]
    async with open_client() as client:
        verified.clear()
        for headers in (tokens[0], tokens[1], tokens[0], tokens[2], tokens[0], tokens[1]):
            assert await _status(client, headers) == 200
    assert [token.split(".")[1] for token in verified] == [
        headers["Authorization"].split(".")[1] for headers in (tokens[0], tokens[1], tokens[2], tokens[1])
    ]


# Signing keys


async def test_without_any_keys_tokens_cannot_be_judged(open_client: ClientFactory, services: EchoServices) -> None:
    services.directory_down = True
    async with open_client(ready=False) as client:
        response = await client.get("/me", headers=services.authorization())
        assert (response.status_code, response.json()["error"]) == (503, "service_unavailable")
        assert response.headers["Retry-After"]
        assert await _status(client, {}) == 401
        assert (await client.get("/oauth2/providers")).status_code == 200
        services.directory_down = False
        with anyio.fail_after(10):
            while await _status(client, services.authorization()) != 200:
                await anyio.lowlevel.checkpoint()


async def test_known_keys_outlive_the_auth_service(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.directory_down = True
    assert await _status(client, services.authorization(jti="another")) == 200
    assert await _status(client, {"Authorization": f"Bearer {Signer('k2').token()}"}) == 401


async def test_a_new_key_is_learned_from_its_first_token(
    client: httpx.AsyncClient, services: EchoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "UNKNOWN_KEY_SECONDS", 0.0)
    successor = Signer("k2")
    headers = {"Authorization": f"Bearer {successor.token()}"}
    assert await _status(client, headers) == 401
    services.extra_keys = [successor.published]
    assert await _status(client, headers) == 200
    assert await _status(client, services.authorization()) == 200


async def test_unknown_keys_cannot_be_used_to_flood_the_auth_service(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    before = services.key_fetches
    for number in range(20):
        assert await _status(client, {"Authorization": f"Bearer {Signer(f'unknown-{number}').token()}"}) == 401
    assert services.key_fetches <= before + 1


async def test_a_withdrawn_key_ends_what_it_signed(
    client: httpx.AsyncClient, services: EchoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "UNKNOWN_KEY_SECONDS", 0.0)
    withdrawn = services.authorization()
    assert await _status(client, withdrawn) == 200
    services.signer = Signer("k2")
    assert await _status(client, services.authorization()) == 200
    assert await _status(client, withdrawn) == 401


async def test_an_unusable_key_does_not_harm_the_others(
    open_client: ClientFactory, services: EchoServices, caplog: pytest.LogCaptureFixture
) -> None:
    for kid, algorithm, material in (("a", "HS256", services.signer.public), ("b", "ES256", b"-----BEGIN nonsense")):
        broken = services.signer.published
        broken.kid, broken.algorithm, broken.verification_key = kid, algorithm, material
        services.extra_keys.append(broken)
    async with open_client() as client:
        assert await _status(client, services.authorization()) == 200
    assert {record.__dict__["kid"] for record in caplog.records if record.msg == "unusable signing key"} == {"a", "b"}
