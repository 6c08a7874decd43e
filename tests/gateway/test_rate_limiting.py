"""What clients see of the limits, through the whole gateway."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from gateway import rate_limits
from gateway.middleware.rate_limiting import REFUSED, countable_network
from services.shared import redis_connection
from services.shared.errors import unavailable
from services.shared.settings import Settings
from tests.gateway.conftest import ClientFactory
from tests.gateway.echo_services import OPERATIONS, EchoServices
from tmi.options.v1.options_pb2 import RateTier

pytestmark = pytest.mark.anyio

LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
CLIENT = "203.0.113.7"
AUTHORIZE = "/oauth2/authorize?idp=tmi&scope=openid"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OTHER_USER_ID = "5d0f0c3e-0000-4000-8000-00000000000b"
OTHER_SESSION_ID = "5d0f0c3e-0000-4000-8000-00000000000c"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """How busy the machine is must not decide what is counted."""
    monkeypatch.setattr(rate_limits, "ANSWER_SECONDS", 30.0)


@pytest.fixture
def limited(open_client: ClientFactory, redis_url: str) -> Any:
    """Opens a gateway that counts, for a client at CLIENT unless a test says otherwise."""

    @asynccontextmanager
    async def open_it(*, peer: str = CLIENT, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        async with open_client(peer=peer, redis_url=redis_url, **changes) as client:
            yield client

    return open_it


def standing(response: httpx.Response) -> tuple[int, int]:
    """Limit and remaining."""
    assert int(response.headers["X-RateLimit-Reset"]) >= time.time() - 1
    return int(response.headers["X-RateLimit-Limit"]), int(response.headers["X-RateLimit-Remaining"])


def assert_refused(response: httpx.Response, limit: int, scope: str) -> None:
    assert response.status_code == 429
    assert response.json()["error"] == "rate_limit_exceeded"
    assert response.json()["error_description"]
    assert 1 <= int(response.headers["Retry-After"]) <= 120
    assert standing(response) == (limit, 0)
    assert response.headers["X-RateLimit-Scope"] == scope


def test_only_login_flows_declare_their_tier() -> None:
    declared = {each.path for each in OPERATIONS if each.rate_tier == RateTier.RATE_TIER_AUTH_FLOWS}
    assert declared == {
        "/oauth2/authorize",
        "/oauth2/callback",
        "/oauth2/token",
        "/oauth2/refresh",
        "/oauth2/introspect",
    }
    for operation in OPERATIONS:
        if operation.requirement.authenticated:
            assert operation.rate_tier == RateTier.RATE_TIER_RESOURCE_OPERATIONS
        elif operation.path not in declared:
            assert operation.rate_tier == RateTier.RATE_TIER_PUBLIC_DISCOVERY


async def test_a_user_is_counted_over_all_operations(limited: Any, services: EchoServices) -> None:
    headers = services.authorization()
    async with limited(ratelimit_user_rpm=5) as client:
        first = standing(await client.get("/me", headers=headers))
        again = standing(await client.get("/threat_models", headers=headers))
        assert (first[0], again) == (5, (5, first[1] - 1))
        while (answer := await client.get("/threat_models", headers=headers)).status_code == 200:
            assert standing(answer)[0] == 5
        assert_refused(answer, 5, "user")
        reached = len(services.calls)
        assert (await client.get("/me", headers=headers)).status_code == 429
        assert len(services.calls) == reached
        other = services.authorization(tmi_user_id=OTHER_USER_ID, sid=OTHER_SESSION_ID)
        assert (await client.get("/me", headers=other)).status_code == 200


async def test_errors_of_a_counted_request_say_how_it_stands(limited: Any, services: EchoServices) -> None:
    async with limited() as client:
        services.error = unavailable("down for the test")
        answer = await client.post("/threat_models", json={}, headers=services.authorization())
        assert answer.status_code == 503
        assert standing(answer)[0] == 1000


async def test_what_is_refused_before_its_user_is_known_is_not_counted(limited: Any, services: EchoServices) -> None:
    headers = services.authorization()
    async with limited() as client:
        before = standing(await client.get("/me", headers=headers))
        for answer in (
            await client.get("/me"),
            await client.post("/threat_models", content=b"{", headers=headers | {"Content-Type": "application/json"}),
            await client.get("/nowhere", headers=headers),
        ):
            assert answer.status_code in (400, 401, 404)
            assert not set(LIMIT_HEADERS) & set(answer.headers)
        assert standing(await client.get("/me", headers=headers))[1] == before[1] - 1


async def test_two_gateways_count_together(limited: Any, services: EchoServices) -> None:
    headers = services.authorization()
    async with limited(ratelimit_user_rpm=9) as one, limited(ratelimit_user_rpm=9) as other:
        remaining = [standing(await client.get("/me", headers=headers))[1] for client in (one, other, one, other)]
        assert remaining == list(range(remaining[0], remaining[0] - 4, -1))


@pytest.mark.parametrize("path", ["/", "/config", "/saml/providers", "/.well-known/jwks.json", "/oauth2/providers"])
async def test_what_everybody_may_see_is_counted_by_address(limited: Any, path: str) -> None:
    async with limited(ratelimit_public_rpm=2) as client:
        assert [standing(await client.get(path)) for _ in range(2)] == [(2, 1), (2, 0)]
        assert_refused(await client.get(path), 2, "ip")
    async with limited(peer="203.0.113.8", ratelimit_public_rpm=2) as neighbour:
        assert (await neighbour.get(path)).status_code == 200


async def test_a_trusted_proxy_says_whose_address_it_is(limited: Any) -> None:
    settings = {"peer": "10.0.0.1", "trusted_proxies": ["10.0.0.0/8"], "ratelimit_public_rpm": 1}
    async with limited(**settings) as client:
        for address in (CLIENT, "203.0.113.8", "2001:db8::1"):
            headers = {"X-Forwarded-For": f"198.51.100.1, {address}"}
            assert (await client.get("/config", headers=headers)).status_code == 200
            assert_refused(await client.get("/config", headers=headers), 1, "ip")
        # One who has an IPv6 network has all of its addresses.
        assert_refused(await client.get("/config", headers={"X-Forwarded-For": "2001:db8::2"}), 1, "ip")


async def test_a_forwarded_address_of_a_stranger_is_not_believed(limited: Any) -> None:
    async with limited(ratelimit_public_rpm=1) as client:
        assert (await client.get("/config", headers={"X-Forwarded-For": "198.51.100.1"})).status_code == 200
        assert (await client.get("/config", headers={"X-Forwarded-For": "198.51.100.2"})).status_code == 429


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""])
async def test_this_machine_itself_is_nobody(limited: Any, peer: str) -> None:
    async with limited(peer=peer, ratelimit_public_rpm=1, ratelimit_auth_ip_rpm=1) as client:
        for path in ("/config", "/config", AUTHORIZE, AUTHORIZE):
            assert (await client.get(path)).status_code < 400


def test_networks_that_are_counted() -> None:
    assert countable_network("203.0.113.7") == "203.0.113.7"
    assert countable_network("2001:db8:0:1::7") == countable_network("2001:db8:0:1:ffff::8") != ""
    assert countable_network("2001:db8:0:2::7") != countable_network("2001:db8:0:1::7")


async def test_a_login_is_counted_by_itself_by_its_name_and_by_its_address(limited: Any) -> None:
    limits = {"ratelimit_auth_session_rpm": 2, "ratelimit_auth_user_rpm": 3, "ratelimit_auth_ip_rpm": 5}
    async with limited(**limits) as client:
        for state, hint, refused_by in (
            ("a", "alice", ""),
            ("a", "Alice", ""),
            ("a", "bob", "session"),
            ("b", "alice ", ""),
            ("c", "alice", "user"),
            ("c", "bob", ""),
            ("d", "", ""),
            ("e", "", "ip"),
        ):
            answer = await client.get(AUTHORIZE, params={"state": state, "login_hint": hint, "scope": "openid"})
            assert answer.headers.get("X-RateLimit-Scope", "") == refused_by, (state, hint)
            assert (answer.status_code == 429) == bool(refused_by)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/oauth2/token", {"json": {"grant_type": "authorization_code", "code": "c"}}),
        ("/oauth2/token", {"content": "grant_type=refresh_token&refresh_token=r", "headers": FORM}),
        ("/oauth2/refresh", {"json": {"refresh_token": "r"}}),
        (
            "/oauth2/refresh",
            {"json": {}, "headers": {"Cookie": "tmi_refresh_token=r", "Sec-Fetch-Site": "same-origin"}},
        ),
        ("/oauth2/callback?code=c", {}),
        ("/oauth2/callback?state=s", {}),
    ],
    ids=str,
)
async def test_one_login_in_a_loop_does_not_take_its_office_with_it(limited: Any, path: str, options: Any) -> None:
    verb = "GET" if "callback" in path else "POST"
    async with limited(ratelimit_auth_session_rpm=2) as client:
        for _ in range(2):
            assert (await client.request(verb, path, **options)).status_code < 400
        assert_refused(await client.request(verb, path, **options), 2, "session")
        assert (await client.post("/oauth2/refresh", json={"refresh_token": "of somebody else"})).status_code == 200


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"[]", "application/json"),
        (b'{"code":["a"]}', "application/json"),
        (b"&".join(b"a%d=1" % number for number in range(300)), FORM["Content-Type"]),
        (b"code=%ff&code=%fe", FORM["Content-Type"]),
        (b"\xff\xfe", FORM["Content-Type"]),
        (b"", FORM["Content-Type"]),
    ],
)
async def test_a_body_that_makes_no_sense_is_counted_by_its_address(
    limited: Any, services: EchoServices, content: bytes, content_type: str
) -> None:
    async with limited(ratelimit_auth_ip_rpm=1) as client:
        headers = {"Content-Type": content_type}
        assert (await client.post("/oauth2/token", content=content, headers=headers)).status_code == 200
        assert services.last.body == content
        assert_refused(await client.post("/oauth2/token", content=content, headers=headers), 1, "ip")


async def test_redis_knows_no_secret(limited: Any, redis_url: str) -> None:
    async with limited() as client:
        await client.post("/oauth2/refresh", json={"refresh_token": "refresh-secret"})
        await client.get(AUTHORIZE, params={"state": "state-secret", "login_hint": "person-secret"})
    with redis_connection.connect(redis_url) as redis:
        keys: Any = redis.keys("tmi:limit:*")
        assert len(keys) >= 4
        assert not [key for key in keys if b"secret" in key]


async def test_refusals_are_counted_by_tier_and_scope(limited: Any) -> None:
    counter = REFUSED.labels("public_discovery", "ip")
    before = counter._value.get()
    async with limited(ratelimit_public_rpm=1) as client:
        for _ in range(3):
            await client.get("/config")
    assert counter._value.get() == before + 2


@pytest.mark.parametrize(
    "switched_off", [{"disable_rate_limiting": True}, {"redis_url": ""}, {"redis_url": "unix:///nowhere/valkey.sock"}]
)
async def test_without_limits_or_without_redis_everything_passes(
    open_client: ClientFactory, services: EchoServices, redis_url: str, switched_off: dict[str, Any]
) -> None:
    settings = {"redis_url": redis_url, "ratelimit_user_rpm": 1, "ratelimit_public_rpm": 1, **switched_off}
    async with open_client(peer=CLIENT, **settings) as client:
        for _ in range(3):
            for answer in (await client.get("/me", headers=services.authorization()), await client.get("/config")):
                assert answer.status_code == 200
                assert not set(LIMIT_HEADERS) & set(answer.headers)


async def test_nobody_at_work_meets_the_defaults(limited: Any, services: EchoServices) -> None:
    """An office of 500 behind one address that logs in within a minute, and one page of theirs each second."""
    defaults = Settings()
    assert defaults.ratelimit_auth_ip_rpm >= 500 * len(("authorize", "callback", "token", "refresh"))
    assert defaults.ratelimit_public_rpm >= 600
    assert defaults.ratelimit_user_rpm >= 1000
    async with limited() as client, anyio.create_task_group() as tasks:

        async def use(number: int) -> None:
            user = {
                "tmi_user_id": f"5d0f0c3e-0000-4000-8000-{number:012}",
                "sid": f"5d0f0c3e-0000-4000-8001-{number:012}",
            }
            for verb, path in (("GET", "/config"), ("GET", "/saml/providers"), ("POST", "/oauth2/refresh")):
                answer = await client.request(verb, path, json={} if verb == "POST" else None)
                assert answer.status_code == 200
            for _ in range(20):
                assert (await client.get("/me", headers=services.authorization(**user))).status_code == 200

        for number in range(20):
            tasks.start_soon(use, number)
