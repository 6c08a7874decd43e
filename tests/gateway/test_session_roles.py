"""Groups and roles of sessions: asked of auth, kept for a moment, handed to services."""

import asyncio
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
import redis

from gateway import session_roles
from services.shared.access_token import REVOCATIONS_CHANNEL
from services.shared.principal import EVERYONE_GROUP_ID, group_ids
from tests.gateway.conftest import ClientFactory
from tests.gateway.echo_services import SESSION_ID, USER_ID, EchoServices
from tmi.auth.v1.directory_pb2 import ResolveSessionResponse, Revocation, RevocationKind

pytestmark = pytest.mark.anyio

GROUPS = [uuid4() for _ in range(1000)]


async def _status(client: httpx.AsyncClient, services: EchoServices, **claims: str) -> int:
    return (await client.get("/me", headers=services.authorization(**claims))).status_code


async def _fresh(services: EchoServices) -> str:
    """A session that the gateway has not seen."""
    services.resolved.clear()
    return str(uuid4())


async def test_a_person_may_be_in_a_thousand_groups(client: httpx.AsyncClient, services: EchoServices) -> None:
    session_id = await _fresh(services)
    services.session = ResolveSessionResponse(
        group_ids=[group.bytes for group in GROUPS], is_administrator=True, is_security_reviewer=True
    )
    for _ in range(3):
        assert await _status(client, services, sid=session_id) == 200
    caller = services.last.call.caller
    assert group_ids(caller) == [EVERYONE_GROUP_ID, *map(str, GROUPS)]
    assert (caller.user_id, caller.session_id) == (USER_ID, session_id)
    assert caller.is_administrator
    assert caller.is_security_reviewer
    assert services.resolved == [(session_id, USER_ID)]


async def test_what_the_token_says_about_roles_does_not_count(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    headers = services.authorization(tmi_is_administrator=True, tmi_group_ids=[str(GROUPS[0])], sid=str(uuid4()))
    assert (await client.get("/me", headers=headers)).status_code == 200
    assert not services.last.call.caller.is_administrator
    assert group_ids(services.last.call.caller) == [EVERYONE_GROUP_ID]


async def test_requests_at_once_ask_once(client: httpx.AsyncClient, services: EchoServices) -> None:
    session_id = await _fresh(services)
    assert set(await asyncio.gather(*(_status(client, services, sid=session_id) for _ in range(20)))) == {200}
    assert services.resolved == [(session_id, USER_ID)]


async def test_a_change_takes_effect_when_the_answer_is_not_fresh_any_more(
    client: httpx.AsyncClient, services: EchoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_roles, "FRESH_SECONDS", 0.0)
    session_id = str(uuid4())
    for administrator in (True, False):
        services.session = ResolveSessionResponse(is_administrator=administrator)
        assert await _status(client, services, sid=session_id) == 200
        assert services.last.call.caller.is_administrator == administrator


async def test_a_session_of_somebody_else_is_asked_for_anew(client: httpx.AsyncClient, services: EchoServices) -> None:
    session_id, other = await _fresh(services), str(uuid4())
    await _status(client, services, sid=session_id)
    await _status(client, services, sid=session_id, tmi_user_id=other)
    assert services.resolved == [(session_id, USER_ID), (session_id, other)]


async def test_a_session_that_is_not_alive_is_401(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.session = None
    response = await client.get("/me", headers=services.authorization(sid=str(uuid4())))
    assert (response.status_code, response.json()["error"]) == (401, "unauthorized")
    assert "invalid_token" in response.headers["WWW-Authenticate"]


async def test_an_id_that_is_none_is_401(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.resolved.clear()
    for claims in ({"sid": "session"}, {"tmi_user_id": "alice"}):
        assert await _status(client, services, **claims) == 401
    assert services.resolved == []


async def test_without_auth_known_sessions_go_on_and_others_wait(
    client: httpx.AsyncClient, services: EchoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_roles, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(session_roles, "RETRY_SECONDS", 0.0)
    known, unknown = str(uuid4()), str(uuid4())
    services.session = ResolveSessionResponse(is_administrator=True)
    assert await _status(client, services, sid=known) == 200
    services.directory_down = True
    assert await _status(client, services, sid=known) == 200
    assert services.last.call.caller.is_administrator
    response = await client.get("/me", headers=services.authorization(sid=unknown))
    assert (response.status_code, "Retry-After" in response.headers) == (503, True)
    monkeypatch.setattr(session_roles, "STALE_SECONDS", 0.0)
    assert await _status(client, services, sid=known) == 503
    services.directory_down = False
    assert await _status(client, services, sid=unknown) == 200


@pytest.mark.parametrize(
    ("kind", "identifier"),
    [(RevocationKind.REVOCATION_KIND_SESSION, SESSION_ID), (RevocationKind.REVOCATION_KIND_USER, USER_ID)],
)
async def test_a_revocation_ends_what_is_kept(
    open_client: ClientFactory,
    services: EchoServices,
    redis_url: str,
    kind: RevocationKind.ValueType,
    identifier: str,
) -> None:
    publisher = redis.Redis.from_url(redis_url)
    async with open_client(redis_url=redis_url) as client:
        headers = services.authorization(iat=1_000_000_000, auth_time=1_000_000_000)
        assert (await client.get("/me", headers=headers)).status_code == 200
        with anyio.fail_after(15):
            while publisher.pubsub_numsub(REVOCATIONS_CHANNEL)[0][1] == 0:  # noqa: ASYNC110 - sets no event here
                await anyio.sleep(0.005)
        services.resolved.clear()
        revocation = Revocation(kind=kind, id=identifier, revoked_at=1_000_000_001, expires_at=9_000_000_000)
        publisher.publish(REVOCATIONS_CHANNEL, revocation.SerializeToString())
        with anyio.fail_after(15):
            while (await client.get("/me", headers=headers)).status_code != 401:
                await anyio.lowlevel.checkpoint()
        # A token issued since is valid, and its groups are those of now.
        assert (await client.get("/me", headers=services.authorization())).status_code == 200
        assert services.resolved == [(SESSION_ID, USER_ID)]
    publisher.close()


async def test_only_so_many_sessions_are_kept(
    client: httpx.AsyncClient, services: EchoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_roles, "CACHED_SESSIONS", 2)
    one, two, three = (str(UUID(int=n)) for n in (1, 2, 3))
    services.resolved.clear()
    for session_id in (one, two, one, three, one, two):
        assert await _status(client, services, sid=session_id) == 200
    assert [session_id for session_id, _ in services.resolved] == [one, two, three, two]
