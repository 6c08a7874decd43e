import httpx
import pytest

from deploy.demo.client import CLIENT_CALLBACK, Person, code_challenge
from tests.system.conftest import LogIn

pytestmark = pytest.mark.anyio


async def test_pkce_login_gives_tokens_that_both_gateways_accept(log_in: LogIn, gateways: list[str]) -> None:
    alice = await log_in("alice")
    for gateway in gateways:
        async with httpx.AsyncClient(base_url=gateway, trust_env=False) as client:
            answer = await client.get("/me", headers={"Authorization": f"Bearer {alice.access_token}"})
        assert answer.status_code == 200
        assert answer.json()["provider_id"] == alice.name
        assert answer.json()["email"] == alice.email


async def test_a_login_may_finish_at_another_gateway_than_it_began(log_in: LogIn, gateways: list[str]) -> None:
    first = await log_in("alice")
    async with Person(first.name, gateways[0]) as begin, httpx.AsyncClient(trust_env=False) as client:
        verifier = "v" * 43
        answer = await begin.http.get(
            "/oauth2/authorize",
            params={
                "idp": "tmi",
                "client_callback": CLIENT_CALLBACK,
                "scope": "openid",
                "state": "0123456789abcdef",
                "code_challenge": code_challenge(verifier),
                "code_challenge_method": "S256",
                "login_hint": first.name,
            },
        )
        assert answer.status_code == 302
        code = httpx.URL(answer.headers["location"]).params["code"]
        finished = await client.post(
            f"{gateways[1]}/oauth2/token?idp=tmi",
            json={
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": CLIENT_CALLBACK,
            },
        )
    assert finished.status_code == 200
    assert finished.json()["token_type"].lower() == "bearer"


async def test_cookies_identify_a_browser_without_a_bearer_token(log_in: LogIn) -> None:
    alice = await log_in("alice", use_cookies=True)
    assert "authorization" not in alice.http.headers
    assert (await alice.request("GET", "/me"))["provider_id"] == alice.name
    assert await alice.request("POST", "/oauth2/refresh", {})
    assert (await alice.request("GET", "/me"))["provider_id"] == alice.name


async def test_logout_ends_the_tokens_on_every_gateway(log_in: LogIn, gateways: list[str]) -> None:
    alice = await log_in("alice")
    elsewhere = {"Authorization": f"Bearer {alice.access_token}"}
    await alice.request("POST", "/me/logout", {})
    async with httpx.AsyncClient(base_url=gateways[1], trust_env=False) as client:
        answer = await _eventually_unauthorized(client, elsewhere)
        assert answer.json()["error"] in ("unauthorized", "invalid_token")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        refreshed = await client.post("/oauth2/refresh", json={"refresh_token": alice.refresh_token})
    assert refreshed.status_code == 400
    assert refreshed.json()["error"] == "invalid_grant"
    assert (await alice.call("GET", "/me")).status_code == 401


async def _eventually_unauthorized(client: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
    """The other gateway hears of it over Redis, which takes milliseconds."""
    for _ in range(200):
        answer = await client.get("/me", headers=headers)
        if answer.status_code == 401:
            return answer
    raise AssertionError("the token still works at the other gateway")
