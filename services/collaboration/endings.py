"""Ending a session without losing what was sent just before.

An edit and the DELETE behind it travel on different connections and through different processes. Before
the session is closed, every replica with a room of it asks its gateways to forward what they have read,
and answers when that has its outcome. Answers are in a Redis list of the ending's own id.
"""

import asyncio
import time
from dataclasses import dataclass

import redis.asyncio
from redis.exceptions import RedisError

from services.collaboration.relay import Relay
from services.shared.uuids import uuid4
from tmi.collaboration.v1.relay_pb2 import RelayFrame, SessionEnding

LONGEST_SECONDS = 2.0
"""Then the session ends, whoever has not answered."""
BLOCKING_SECONDS = 0.5


@dataclass(slots=True)
class Ending:
    """What one room waits for: streams that have not settled, then this many operations' outcomes."""

    waits_for: set[str]
    operations: int = 0


class Endings:
    """Both ends of the question whether everything is settled."""

    def __init__(self, client: redis.asyncio.Redis, relay: Relay) -> None:
        self._client = client
        self._relay = relay

    async def settle(self, session_id: str, reason: str) -> None:
        """Returns when every replica with a room of the session has settled, or after LONGEST_SECONDS.

        reason: why the session ends.
        """
        ending_id = uuid4()
        frame = RelayFrame(session_ending=SessionEnding(ending_id=ending_id, reason=reason))
        deadline = time.monotonic() + LONGEST_SECONDS
        try:
            missing = await self._relay.ask(session_id, frame)
            while missing and (left := deadline - time.monotonic()) > 0:
                # A timeout of 0 would wait for ever, a long one longer than the client waits for an answer.
                if await self._client.blpop([_key(ending_id)], timeout=min(max(left, 0.01), BLOCKING_SECONDS)):
                    missing -= 1
        except (RedisError, OSError):
            await asyncio.sleep(max(deadline - time.monotonic(), 0.0))

    async def tell_settled(self, ending_id: str) -> None:
        """Answers for this replica."""
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.rpush(_key(ending_id), b"")
                pipeline.expire(_key(ending_id), 10)
                await pipeline.execute()
        except (RedisError, OSError):
            return  # whoever asks will not wait longer than LONGEST_SECONDS


def _key(ending_id: str) -> str:
    return f"tmi:ending:{ending_id}"
