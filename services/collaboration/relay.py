"""Redis Pub/Sub between replicas: one channel a session.

It is fast and lossy. Whoever listens learns from `on_subscribed` when frames may have been missed
before, and from `is_healthy` whether to look at the operation log instead.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import redis.asyncio
from google.protobuf.message import DecodeError
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from tmi.collaboration.v1.relay_pb2 import RelayFrame

logger = logging.getLogger(__name__)

PING_SECONDS = 1.0
RECONNECT_SECONDS = 0.1
PUBLISH_BACKLOG_BYTES = 64 * 1024 * 1024
"""What Redis has not taken beyond this is dropped: the other replicas read the log."""
_PREFIX = "tmi:room:"
_CONTROL = "tmi:relay"


class Relay:
    """Publishes and receives frames of the sessions this replica has rooms for."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        replica_id: str,
        on_frame: Callable[[str, RelayFrame], None],
        on_subscribed: Callable[[str], None],
        on_broadcast: Callable[[RelayFrame], None],
    ) -> None:
        """on_frame(session_id, frame): a frame of another replica. on_subscribed(session_id): frames flow now.
        on_broadcast(frame): a frame to every replica, sent by any.
        """
        self._client = client
        self._replica_id = replica_id
        self._on_frame = on_frame
        self._on_subscribed = on_subscribed
        self._on_broadcast = on_broadcast
        self._sessions: set[str] = set()
        self._pubsub: PubSub | None = None
        self._backlog: deque[tuple[str, bytes]] = deque()
        self._backlog_bytes = 0
        self._has_backlog = asyncio.Event()
        self._is_listening = False
        self._answers_pings = True
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_healthy(self) -> bool:
        """True while frames published elsewhere can be expected to arrive."""
        return self._is_listening and self._answers_pings

    def start(self) -> None:
        """Begins to work in the running event loop."""
        self._tasks = [asyncio.create_task(run()) for run in (self._listen, self._publish, self._watch)]

    async def stop(self) -> None:
        """Ends its tasks."""
        pending = set(self._tasks)
        while pending:
            # More than once, because the Redis client may swallow it while it connects.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.1)

    def publish(self, session_id: str, frame: RelayFrame) -> None:
        """Sends a frame to the other replicas, or drops it while Redis is away."""
        if self.is_healthy:
            frame.replica_id = self._replica_id
            payload = frame.SerializeToString()
            if self._backlog_bytes + len(payload) > PUBLISH_BACKLOG_BYTES:
                self._clear_backlog()
            self._backlog.append((_PREFIX + session_id, payload))
            self._backlog_bytes += len(payload)
            self._has_backlog.set()

    async def ask(self, session_id: str, frame: RelayFrame) -> int:
        """Sends a frame to every replica that listens to the session, this one too; answers how many these are.

        Raises RedisError.
        """
        receivers: int = await self._client.publish(_PREFIX + session_id, frame.SerializeToString())
        return receivers

    async def broadcast(self, frame: RelayFrame) -> None:
        """Sends a frame to every replica, this one too. Raises RedisError."""
        await self._client.publish(_CONTROL, frame.SerializeToString())

    async def subscribe(self, session_id: str) -> None:
        """Listens to a session from now on, also after Redis was away."""
        self._sessions.add(session_id)
        await self._command("subscribe", session_id)

    async def unsubscribe(self, session_id: str) -> None:
        """Listens no more."""
        self._sessions.discard(session_id)
        await self._command("unsubscribe", session_id)

    async def _command(self, name: str, session_id: str) -> None:
        if self._pubsub is not None and self._is_listening:
            try:
                await getattr(self._pubsub, name)(_PREFIX + session_id)
            except (RedisError, OSError):
                self._is_listening = False

    async def _listen(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    self._pubsub = pubsub
                    try:
                        await self._receive_all(pubsub)
                    finally:
                        # Before it is closed: a command to a closed one would open a connection that nobody closes.
                        self._pubsub = None
            except (RedisError, OSError) as error:
                if self._is_listening:
                    logger.warning("relay lost", extra={"error": type(error).__name__})
            finally:
                self._is_listening = False
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _receive_all(self, pubsub: PubSub) -> None:
        """Subscribes to everything and receives until it is told to begin anew."""
        known = set(self._sessions)
        await pubsub.subscribe(_CONTROL, *(_PREFIX + session_id for session_id in known))
        self._is_listening = True
        # Rooms that were opened meanwhile; later ones subscribe by themselves.
        for session_id in self._sessions - known:
            await self._command("subscribe", session_id)
        while self._is_listening:
            if message := await pubsub.get_message(timeout=PING_SECONDS):
                self._receive(message)

    def _receive(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode()
        session_id = channel.removeprefix(_PREFIX)
        if message["type"] == "subscribe" and channel != _CONTROL:
            self._on_subscribed(session_id)
        elif message["type"] == "message":
            try:
                frame = RelayFrame.FromString(message["data"])
            except DecodeError:
                logger.error("relay frame not understood", extra={"channel": channel})
                return
            if channel == _CONTROL:
                self._on_broadcast(frame)
            elif frame.replica_id != self._replica_id:
                self._on_frame(session_id, frame)

    async def _publish(self) -> None:
        """Writes to a connection that is never answered: waiting for replies would cost more than publishing."""
        while True:
            connection = self._client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.connect()
                await connection.send_command("CLIENT", "REPLY", "OFF")
                while True:
                    self._has_backlog.clear()
                    while self._backlog:
                        batch = list(self._backlog)
                        self._clear_backlog()
                        commands = [("PUBLISH", channel, payload) for channel, payload in batch]
                        await connection.send_packed_command(connection.pack_commands(commands))
                    await self._has_backlog.wait()
            except (RedisError, OSError):
                self._answers_pings = False
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                await connection.disconnect(nowait=True)

    def _clear_backlog(self) -> None:
        self._backlog.clear()
        self._backlog_bytes = 0

    async def _watch(self) -> None:
        """Notices a Redis that is connected and does not answer."""
        while True:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._client.ping()
                self._answers_pings = True
            except (RedisError, OSError, TimeoutError):
                self._answers_pings = False
            await asyncio.sleep(PING_SECONDS)
