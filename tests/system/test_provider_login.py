"""Logins at real providers through the gateway, as a browser makes them."""

import threading
from collections.abc import Iterator
from functools import partial

import anyio.to_thread
import httpx
import pytest

from deploy.demo.client import CLIENT_CALLBACK, Person, code_challenge
from deploy.embedded.process import PROJECT
from deploy.embedded.stack import Stack
from tests.auth.github_server import GitHubServer
from tests.system.conftest import LogIn
from tests.system.test_failures import eventually

pytestmark = pytest.mark.anyio
VERIFIER = "v" * 43


@pytest.fixture(autouse=True)
def no_secret_in_any_log(stack: Stack, github: GitHubServer, seen: set[str]) -> Iterator[None]:
    """At the level `debug`, whatever the test did."""
    yield
    text = "".join(file.read_text(errors="replace") for file in (stack.directory / "log").glob("*.log"))
    assert '"service":"auth"' in text
    assert not [secret for secret in seen | github.secrets if secret in text]


@pytest.fixture
def seen() -> set[str]:
    """Codes and tokens that the test came across."""
    return set()


def authorization(idp: str) -> dict[str, str]:
    return {
        "idp": idp,
        "client_callback": CLIENT_CALLBACK,
        "scope": "openid",
        "state": "0123456789abcdef",
        "code_challenge": code_challenge(VERIFIER),
        "code_challenge_method": "S256",
    }


async def test_an_openid_login_with_cookies_is_refreshed_and_says_who_it_is(log_in: LogIn, seen: set[str]) -> None:
    alice = await log_in("jane", use_cookies=True, provider="oidc")
    seen |= {alice.access_token, alice.refresh_token}
    assert "authorization" not in alice.http.headers
    me = await alice.request("GET", "/me")
    assert (me["provider"], me["provider_id"]) == ("oidc", alice.name)
    assert me["email"] == f"{alice.name}@example.com"
    tokens = await alice.request("POST", "/oauth2/refresh", {})
    seen |= {tokens["access_token"], tokens["refresh_token"]}
    assert (await alice.request("GET", "/me"))["provider_id"] == alice.name


async def test_the_openid_provider_of_this_machine_writes_no_keys_into_the_project(log_in: LogIn) -> None:
    await log_in("jane", provider="oidc")
    assert not (PROJECT / "private").exists()


async def test_every_configured_provider_is_offered(gateways: list[str]) -> None:
    async with httpx.AsyncClient(base_url=gateways[0], trust_env=False) as client:
        providers = (await client.get("/oauth2/providers")).json()["providers"]
    assert [provider["id"] for provider in providers] == ["github", "oidc", "tmi"]
    assert [provider["name"] for provider in providers][:2] == ["GitHub", "OpenID (this machine)"]
    assert "secret" not in str(providers)


async def test_a_login_at_github_may_go_through_both_gateways(
    gateways: list[str], github: GitHubServer, seen: set[str]
) -> None:
    async with httpx.AsyncClient(trust_env=False) as browser:
        begun = await browser.get(f"{gateways[0]}/oauth2/authorize", params=authorization("github"))
        returned = httpx.URL((await browser.get(begun.headers["location"])).headers["location"])
        assert returned.path == "/oauth2/callback"
        finished = await browser.get(f"{gateways[1]}/oauth2/callback", params=returned.params)
        location = httpx.URL(finished.headers["location"])
        assert str(location).startswith(f"{CLIENT_CALLBACK}?")
        assert location.params["iss"] == gateways[0]
        code = location.params["code"]
        seen |= {code, VERIFIER}
        assert code not in github.secrets, "the client gets a code of ours"
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": VERIFIER,
            "redirect_uri": CLIENT_CALLBACK,
        }
        tokens = (await browser.post(f"{gateways[0]}/oauth2/token?idp=github", json=body)).json()
        seen |= {tokens["access_token"], tokens["refresh_token"]}
        me = (await browser.get(f"{gateways[1]}/me")).json()
        assert (me["provider"], me["provider_id"], me["email"]) == ("github", "583231", "octocat@example.com")


@pytest.mark.parametrize("idp", ["google", "../tmi", "1st", "a b", "oidc\u0000", "OIDC", "x" * 101, "oidc%2f"])
async def test_an_odd_or_unknown_provider_is_400(gateways: list[str], idp: str) -> None:
    async with httpx.AsyncClient(base_url=gateways[0], trust_env=False) as client:
        answer = await client.get("/oauth2/authorize", params=authorization(idp))
    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_auth_killed_in_the_middle_of_a_login_leaves_nobody_logged_in(
    stack: Stack, gateways: list[str], github: GitHubServer, log_in: LogIn
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        reached.set()
        assert go_on.wait(60)

    github.before_emails = wait
    github.user = {"id": 77, "login": "interrupted"}
    async with httpx.AsyncClient(base_url=gateways[0], trust_env=False, timeout=60) as browser:
        begun = await browser.get("/oauth2/authorize", params=authorization("github"))
        returned = httpx.URL((await browser.get(begun.headers["location"])).headers["location"])
        async with anyio.create_task_group() as tasks:
            answers: list[httpx.Response] = []

            async def finish() -> None:
                answers.append(await browser.get("/oauth2/callback", params=returned.params))

            tasks.start_soon(finish)
            assert await anyio.to_thread.run_sync(reached.wait, 60)
            killed = stack.kill("auth")
            go_on.set()
        github.before_emails = lambda: None
        await anyio.to_thread.run_sync(stack.wait_replaced, "auth", 1, killed)
        (answer,) = answers
        assert answer.status_code in (400, 503)
        assert not browser.cookies
        for gateway in gateways:
            await eventually(partial(browser.get, f"{gateway}/oauth2/providers"), 200)
        again = await browser.get("/oauth2/callback", params=returned.params)
        assert (again.status_code, again.json()["error"]) == (400, "invalid_request")
        assert (await browser.get("/me")).status_code == 401
    person: Person = await log_in("jane", provider="oidc")
    assert (await person.request("GET", "/me"))["provider"] == "oidc"
