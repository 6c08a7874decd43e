import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import anyio
import grpc
import httpx
import pytest
import redis

from deploy.embedded.valkey import EmbeddedValkey
from gateway import revocations as module
from gateway.revocations import Revocations
from services.shared.access_token import REVOCATIONS_CHANNEL
from services.shared.errors import ApiError
from tests.gateway.conftest import ClientFactory
from tests.gateway.echo_services import SESSION_ID, USER_ID, EchoServices
from tmi.auth.v1.directory_pb2 import Revocation, RevocationKind
from tmi.auth.v1.directory_pb2_grpc import DirectoryStub
from tmi.principal.v1.principal_pb2 import Principal

pytestmark = pytest.mark.anyio

NOW = int(time.time())
PRINCIPAL = Principal(user_id=USER_ID, session_id="session-1", token_id="token-1", issued_at=NOW - 10)
TOKEN, SESSION, USER = (
    RevocationKind.REVOCATION_KIND_TOKEN,
    RevocationKind.REVOCATION_KIND_SESSION,
    RevocationKind.REVOCATION_KIND_USER,
)


def _revocation(
    kind: RevocationKind.ValueType, name: str, revoked_at: int = NOW, expires_at: int = NOW + 36_000
) -> Revocation:
    return Revocation(kind=kind, id=name, revoked_at=revoked_at, expires_at=expires_at)


@asynccontextmanager
async def _running(services: EchoServices, redis_url: str = "") -> AsyncIterator[Revocations]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{services.port}") as channel:
        revocations = Revocations(DirectoryStub(channel), redis_url)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(revocations.run)
            yield revocations
            tasks.cancel_scope.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(15):
        while not condition():  # noqa: ASYNC110 - what happens elsewhere sets no event here
            await anyio.sleep(0.005)


def _is_loaded(revocations: Revocations) -> bool:
    with suppress(ApiError):
        revocations.require()
        return True
    return False


def _quiet() -> Revocations:
    return Revocations(DirectoryStub(grpc.aio.insecure_channel("127.0.0.1:1")), "")


@pytest.mark.parametrize(
    ("revocation", "revoked"),
    [
        (_revocation(TOKEN, "token-1", revoked_at=0), True),
        (_revocation(TOKEN, "token-2"), False),
        (_revocation(TOKEN, "session-1"), False),
        (_revocation(SESSION, "session-1"), True),
        (_revocation(SESSION, "session-1", revoked_at=NOW - 10), True),
        (_revocation(SESSION, "session-1", revoked_at=NOW - 11), False),
        (_revocation(SESSION, "token-1"), False),
        (_revocation(USER, USER_ID), True),
        (_revocation(USER, USER_ID, revoked_at=NOW - 11), False),
        (_revocation(USER, "somebody"), False),
        (_revocation(TOKEN, "token-1", expires_at=NOW - 1), False),
    ],
)
async def test_what_a_revocation_ends(revocation: Revocation, revoked: bool) -> None:
    revocations = _quiet()
    assert not revocations.is_revoked(PRINCIPAL)
    revocations.add(revocation)
    assert revocations.is_revoked(PRINCIPAL) == revoked


async def test_a_later_revocation_replaces_an_earlier_one_and_never_the_other_way() -> None:
    revocations = _quiet()
    revocations.add(_revocation(USER, USER_ID, revoked_at=NOW - 100))
    assert not revocations.is_revoked(PRINCIPAL)
    revocations.add(_revocation(USER, USER_ID, revoked_at=NOW))
    revocations.add(_revocation(USER, USER_ID, revoked_at=NOW - 100))
    assert revocations.is_revoked(PRINCIPAL)


async def test_subscribers_hear_of_each_revocation_once(caplog: pytest.LogCaptureFixture) -> None:
    revocations = _quiet()
    heard: list[str] = []

    def fail(_: Revocation) -> None:
        raise RuntimeError

    revocations.subscribe(fail)
    unsubscribe = revocations.subscribe(lambda revocation: heard.append(revocation.id))
    revocations.add(_revocation(TOKEN, "a"))
    revocations.add(_revocation(TOKEN, "a"))
    revocations.add(_revocation(TOKEN, "old", expires_at=NOW - 1))
    unsubscribe()
    revocations.add(_revocation(TOKEN, "b"))
    assert heard == ["a"]
    assert "a callback failed" in caplog.text


async def test_the_list_is_loaded_at_start_and_again(services: EchoServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.01)
    services.revocations = [_revocation(TOKEN, "token-1")]
    async with _running(services) as revocations:
        await _until(lambda: revocations.is_revoked(PRINCIPAL))
        services.revocations.append(_revocation(TOKEN, "token-2"))
        await _until(lambda: revocations.is_revoked(Principal(token_id="token-2")))


async def test_expired_revocations_are_forgotten(services: EchoServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.01)
    services.revocations = [_revocation(TOKEN, "token-1")]
    async with _running(services) as revocations:
        await _until(lambda: revocations.is_revoked(PRINCIPAL))
        monkeypatch.setattr("gateway.revocations.time.time", lambda: NOW + 36_001.0)
        await _until(lambda: not revocations.is_revoked(PRINCIPAL))


async def test_until_the_first_load_nothing_can_be_told(services: EchoServices) -> None:
    services.directory_down = True
    async with _running(services) as revocations:
        await _until(lambda: services.revocation_reads > 1)
        with pytest.raises(ApiError) as refusal:
            revocations.require()
        assert refusal.value.status == 503
        services.directory_down = False
        await _until(lambda: _is_loaded(revocations))


async def test_a_published_revocation_takes_effect(services: EchoServices, redis_url: str) -> None:
    async with _running(services, redis_url) as revocations:
        publisher = redis.Redis.from_url(redis_url)
        await _until(lambda: publisher.pubsub_numsub(REVOCATIONS_CHANNEL)[0][1] == 1)
        publisher.publish(REVOCATIONS_CHANNEL, b"\xff\xff not a revocation")
        publisher.publish(REVOCATIONS_CHANNEL, _revocation(TOKEN, "token-1").SerializeToString())
        await _until(lambda: revocations.is_revoked(PRINCIPAL))
        publisher.close()


async def test_a_quiet_channel_stays_subscribed(
    services: EchoServices, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    async with _running(services, redis_url) as revocations:
        publisher = redis.Redis.from_url(redis_url)
        await _until(lambda: publisher.pubsub_numsub(REVOCATIONS_CHANNEL)[0][1] == 1)
        await _until(lambda: publisher.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) >= 5)
        assert publisher.pubsub_numsub(REVOCATIONS_CHANNEL)[0][1] == 1
        publisher.publish(REVOCATIONS_CHANNEL, _revocation(TOKEN, "token-1").SerializeToString())
        await _until(lambda: revocations.is_revoked(PRINCIPAL))
        publisher.close()


async def test_losing_redis_only_delays(
    services: EchoServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.05)
    own = EmbeddedValkey(tmp_path)
    try:
        async with _running(services, own.url) as revocations:
            publisher = redis.Redis.from_url(own.url)
            await _until(lambda: publisher.pubsub_numsub(REVOCATIONS_CHANNEL)[0][1] == 1)
            own.stop(kill=True)
            await _until(lambda: "not listening for revocations" in caplog.text)
            services.revocations = [_revocation(TOKEN, "token-1")]
            await _until(lambda: revocations.is_revoked(PRINCIPAL))
            own.start()
            await _until(lambda: publisher.pubsub_numsub(REVOCATIONS_CHANNEL)[0][1] == 1)
            publisher.publish(REVOCATIONS_CHANNEL, _revocation(USER, "bob").SerializeToString())
            await _until(lambda: revocations.is_revoked(Principal(user_id="bob", issued_at=NOW)))
            publisher.close()
    finally:
        own.stop(kill=True)


async def test_what_was_published_while_the_connection_was_lost_takes_effect(
    services: EchoServices, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELOAD_SECONDS", 3600.0)
    async with _running(services, redis_url) as revocations:
        publisher = redis.Redis.from_url(redis_url)
        await _until(lambda: publisher.pubsub_numsub(REVOCATIONS_CHANNEL)[0][1] == 1)
        await _until(lambda: services.revocation_reads == 2)
        services.revocations = [_revocation(TOKEN, "token-1")]
        publisher.client_kill_filter(_type="pubsub")
        await _until(lambda: revocations.is_revoked(PRINCIPAL))
        publisher.close()


async def test_a_revoked_token_is_refused_at_once(
    open_client: ClientFactory, services: EchoServices, redis_url: str
) -> None:
    publisher = redis.Redis.from_url(redis_url)
    # One token for all attempts: a new one may be issued in the second after the revocation, and is valid then.
    ended, other = services.authorization(), services.authorization(sid=str(uuid4()))

    async def status(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
        return (await client.get("/me", headers=headers)).status_code

    async with open_client(redis_url=redis_url) as client:
        assert await status(client, ended) == 200
        await _until(lambda: publisher.pubsub_numsub(REVOCATIONS_CHANNEL)[0][1] == 1)
        publisher.publish(REVOCATIONS_CHANNEL, _revocation(SESSION, SESSION_ID, int(time.time())).SerializeToString())
        with anyio.fail_after(10):
            while await status(client, ended) != 401:  # noqa: ASYNC110 - what happens elsewhere sets no event here
                await anyio.sleep(0.005)
        assert await status(client, other) == 200
    publisher.close()
