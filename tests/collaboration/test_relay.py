"""The relay on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import redis.asyncio
from redis.asyncio.client import PubSub

from services.collaboration import relay as relay_module
from services.collaboration.relay import Relay
from services.shared.redis_connection import connect_async
from tests.collaboration.stack import eventually
from tmi.collaboration.v1.relay_pb2 import PresenceChanged, RelayFrame

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect_async(redis_url)
    yield client
    await client.aclose()


async def test_session_that_is_subscribed_while_the_relay_connects_is_heard(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = str(uuid4())
    heard: list[str] = []
    listener = Relay(client, str(uuid4()), lambda session, _: heard.append(session), lambda _: None, lambda _: None)
    speaker = Relay(client, str(uuid4()), lambda *_: None, lambda _: None, lambda _: None)
    subscribe = PubSub.subscribe
    late: list[asyncio.Task[None]] = []

    async def subscribe_slowly(self: PubSub, *channels: str) -> None:
        await subscribe(self, *channels)
        if not late:
            late.append(asyncio.create_task(listener.subscribe(session_id)))
            await late[0]

    monkeypatch.setattr(PubSub, "subscribe", subscribe_slowly)
    for relay in (listener, speaker):
        relay.start()
    await eventually(lambda: listener.is_healthy and speaker.is_healthy)
    try:
        async with asyncio.timeout(10):
            while not heard:
                speaker.publish(session_id, RelayFrame(presence_changed=PresenceChanged()))
                await asyncio.sleep(0.01)
        assert set(heard) == {session_id}
    finally:
        for relay in (listener, speaker):
            await relay.stop()


async def test_what_redis_does_not_take_is_bounded_in_bytes(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "PUBLISH_BACKLOG_BYTES", 100)
    heard: list[str] = []
    listener = Relay(client, str(uuid4()), lambda session, _: heard.append(session), lambda _: None, lambda _: None)
    speaker = Relay(client, str(uuid4()), lambda *_: None, lambda _: None, lambda _: None)
    sessions = [str(uuid4()) for _ in range(5)]
    for relay in (listener, speaker):
        relay.start()
    for session_id in sessions:
        await listener.subscribe(session_id)
    await eventually(lambda: listener.is_healthy and speaker.is_healthy)
    try:
        for session_id in sessions:  # without giving it a chance to send
            speaker.publish(session_id, RelayFrame(presence_changed=PresenceChanged()))
        await eventually(lambda: sessions[-1] in heard)
        assert sessions[0] not in heard
    finally:
        for relay in (listener, speaker):
            await relay.stop()


async def test_stopped_relay_opens_no_connection_for_rooms_that_finish_later(client: redis.asyncio.Redis) -> None:
    relay = Relay(client, str(uuid4()), lambda *_: None, lambda _: None, lambda _: None)
    relay.start()
    await eventually(lambda: relay.is_healthy)
    session_id = str(uuid4())
    await relay.subscribe(session_id)
    await relay.stop()
    before = len(await client.client_list())
    await relay.unsubscribe(session_id)
    assert len(await client.client_list()) <= before
    assert not relay.is_healthy
