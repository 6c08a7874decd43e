"""Presence and tickets in a real Valkey."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import redis.asyncio

from services.collaboration.participants import ConnectedSocket
from services.collaboration.presence import Presence
from services.collaboration.tickets import Tickets
from services.shared.errors import ApiError
from services.shared.redis_connection import connect_async
from tests.collaboration.stack import eventually, principal
from tmi.collaboration.v1.relay_pb2 import Ticket
from tmi.threat_model.v1.sequencer_pb2 import ROLE_WRITER

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect_async(redis_url)
    yield client
    await client.aclose()


def connected(socket_id: str, name: str = "alice") -> ConnectedSocket:
    return ConnectedSocket(socket_id, principal(name), ROLE_WRITER, time.time(), time.time())


async def names(presence: Presence, session: str = "s") -> list[str]:
    return sorted(socket.socket_id for socket in await presence.snapshot(session))


async def test_snapshot_is_the_union_of_all_replicas(client: redis.asyncio.Redis) -> None:
    one, two = Presence(client, str(uuid4())), Presence(client, str(uuid4()))
    await one.store("s", [connected("a"), connected("b", "bob")])
    await two.store("s", [connected("c")])
    await two.store("other", [connected("d")])
    assert await names(one) == await names(two) == ["a", "b", "c"]
    (socket,) = await one.snapshot("other")
    assert (socket.principal.provider_id, socket.role) == ("alice", ROLE_WRITER)


async def test_sockets_of_several_sessions_are_read_together(client: redis.asyncio.Redis) -> None:
    presence = Presence(client, str(uuid4()))
    first, second, empty = (str(uuid4()) for _ in range(3))
    await presence.store(first, [connected("a"), connected("b", "bob")])
    await presence.store(second, [connected("c")])
    found = await presence.snapshots([empty, second, first])
    assert {key: sorted(socket.socket_id for socket in sockets) for key, sockets in found.items()} == {
        empty: [],
        second: ["c"],
        first: ["a", "b"],
    }
    assert await presence.snapshots([]) == {}


async def test_sockets_of_a_silent_replica_expire(client: redis.asyncio.Redis) -> None:
    silent, alive = Presence(client, str(uuid4()), expiry_seconds=0.2), Presence(client, str(uuid4()))
    await silent.store("s", [connected("a")])
    await alive.store("s", [connected("b")])
    found: list[list[str]] = []
    deadline = time.monotonic() + 5
    while (current := await names(alive)) != ["b"]:
        found.append(current)
        assert time.monotonic() < deadline
    assert found


async def test_a_socket_that_another_one_found_expired_is_no_ghost(client: redis.asyncio.Redis) -> None:
    session, comer = str(uuid4()), str(uuid4())
    dead, living = Presence(client, str(uuid4()), expiry_seconds=0.05), Presence(client, str(uuid4()))
    await dead.store(session, [connected("dead")])
    await living.store(session, [connected("living", "bob")])
    async with asyncio.timeout(30):
        while await client.zscore(f"tmi:presence:{session}:expiry", "dead") is not None:
            await living.reserve(session, principal("carol"), comer)
    assert await names(living, session) == ["living"]
    assert await client.hkeys(f"tmi:presence:{session}:sockets") == [b"living"]


async def test_late_goodbye_does_not_evict_a_socket_taken_over_by_another_replica(client: redis.asyncio.Redis) -> None:
    old, new = Presence(client, str(uuid4())), Presence(client, str(uuid4()))
    await old.store("s", [connected("a")])
    await new.store("s", [connected("a")])
    await old.remove("s", connected("a"))
    assert await names(new) == ["a"]
    await new.remove("s", connected("a"))
    assert await names(new) == []


async def test_limits_count_over_replicas_and_free_places_can_be_taken(client: redis.asyncio.Redis) -> None:
    one, two = Presence(client, str(uuid4())), Presence(client, str(uuid4()))
    for number in range(5):
        await (one if number % 2 else two).reserve(f"session-{number}", principal("alice"), f"a{number}")
    with pytest.raises(ApiError) as raised:
        await one.reserve("s", principal("alice"), "a6")
    assert (raised.value.status, raised.value.code) == (429, "too_many_connections")
    await one.remove("session-1", connected("a1"))
    await two.reserve("s", principal("alice"), "a6")


async def test_presence_is_not_trusted_just_after_valkey_was_away(client: redis.asyncio.Redis) -> None:
    presence = Presence(client, str(uuid4()), expiry_seconds=0.1)
    before = presence.is_trustworthy
    presence.failed()
    assert (before, presence.is_trustworthy) == (True, False)
    await eventually(lambda: presence.is_trustworthy)


async def test_ticket_is_redeemed_once_by_any_replica(client: redis.asyncio.Redis) -> None:
    text = await Tickets(client).issue(Ticket(principal=principal("alice"), session_id="s"))
    assert (await Tickets(client).redeem(text)).session_id == "s"
    with pytest.raises(ApiError) as raised:
        await Tickets(client).redeem(text)
    assert raised.value.status == 401


async def test_ticket_is_not_readable_in_the_store_and_expires(client: redis.asyncio.Redis) -> None:
    text = await Tickets(client).issue(Ticket(session_id="s"))
    (key,) = await client.keys("*")
    assert text.encode() not in key
    assert 28 <= await client.ttl(key) <= 30
