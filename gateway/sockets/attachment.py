"""The stream between this gateway process and a collaboration replica for one session.

The stream may end at any moment; the attachment then goes on with the next replica. Its sockets
stay open and only wait.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from gateway.sockets.delivery import RoomDelivery, SocketDelivery
from gateway.sockets.protocol import WriteFrame
from tmi.collaboration.v1.rooms_pb2 import GatewayFrame, GatewayFrames, RoomFrames
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import DiagramSession

if TYPE_CHECKING:
    from tmi.collaboration.v1.rooms_pb2_grpc import RoomsAsyncStub

    Stream = grpc.aio.StreamStreamCall[GatewayFrames, RoomFrames]

logger = logging.getLogger(__name__)

BATCH_FRAMES = 64
BATCH_BYTES = 1024 * 1024
ON_ITS_WAY_SECONDS = 0.2
"""How long what a client has sent may still take to be read when its session is about to end."""
BACKOFF_SECONDS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0)


class Attachment:
    """One session's sockets in this process and the stream they share."""

    def __init__(
        self,
        rooms: "RoomsAsyncStub",
        session: DiagramSession,
        gateway_id: str,
        queue_limit: int,
        on_end: Callable[["Attachment"], None],
    ) -> None:
        """on_end: called when no socket is left or the session has ended."""
        self.session_id = session.session_id
        self._rooms = rooms
        self._delivery = RoomDelivery(session, gateway_id, queue_limit)
        self._delivery.on_settle = self._settle
        self._on_end = on_end
        self._changed = asyncio.Event()
        self._was_answered = False
        self._task = asyncio.create_task(self._run(), name=f"attachment {self.session_id}")

    def join(
        self,
        socket_id: str,
        principal: Principal,
        wake: Callable[[], None],
        write_now: WriteFrame,
        probe: Callable[[], None],
    ) -> SocketDelivery:
        """Adds a socket."""
        socket = self._delivery.join(socket_id, principal, wake, write_now, probe)
        self._changed.set()
        return socket

    def message(self, socket: SocketDelivery, text: bytes, refusal: str) -> None:
        """Hands a client's message on, and why it is refused if it is."""
        self._delivery.message(socket, text, refusal)
        self._changed.set()

    def leave(self, socket: SocketDelivery) -> None:
        """Removes a socket."""
        self._delivery.leave(socket)
        self._changed.set()

    def _settle(self, ending_id: str) -> None:
        asyncio.get_running_loop().call_later(ON_ITS_WAY_SECONDS, self._settled, ending_id)

    def _settled(self, ending_id: str) -> None:
        self._delivery.settled(ending_id)
        self._changed.set()

    async def close(self, timeout_seconds: float) -> None:
        """Ends the attachment, once every message of sockets that have left is settled or time is up."""
        await asyncio.wait([self._task], timeout=timeout_seconds)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        attempt = 0
        try:
            while not self._is_over:
                await asyncio.sleep(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
                attempt += 1
                self._was_answered = False
                await self._attach()
                if self._was_answered:
                    attempt = 0
        finally:
            self._on_end(self)

    @property
    def _is_over(self) -> bool:
        return self._delivery.is_closed or (self._delivery.is_idle and not self._delivery.outgoing)

    async def _attach(self) -> None:
        """Runs one stream to its end."""
        stream: Stream = self._rooms.Attach(wait_for_ready=True)  # type: ignore[call-arg]
        reader = asyncio.create_task(self._read(stream))
        writer = asyncio.create_task(self._write(stream))
        try:
            await asyncio.wait([reader, writer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stream.cancel()
            for task in (reader, writer):
                task.cancel()
            outcomes = await asyncio.gather(reader, writer, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, grpc.aio.AioRpcError):
                logger.info("attachment lost", extra={"session_id": self.session_id, "status": outcome.code().name})
            elif isinstance(outcome, Exception) and not isinstance(outcome, asyncio.InvalidStateError):
                logger.error("attachment failed", extra={"session_id": self.session_id}, exc_info=outcome)

    async def _read(self, stream: "Stream") -> None:
        receive = self._delivery.receive
        while (message := await stream.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            assert isinstance(message, RoomFrames)
            self._was_answered = True
            for frame in message.frames:
                receive(frame)
            if self._delivery.outgoing or self._is_over:
                self._changed.set()

    async def _write(self, stream: "Stream") -> None:
        """Returns when nothing is left to say for good."""
        beginning = deque(self._delivery.reattach())
        outgoing = self._delivery.outgoing
        while True:
            while frames := next_batch(beginning or outgoing):
                await stream.write(GatewayFrames(frames=frames))
            if self._is_over:
                await stream.done_writing()
                return
            self._changed.clear()
            await self._changed.wait()


def next_batch(frames: deque[GatewayFrame]) -> list[GatewayFrame]:
    """Takes the first frames, up to BATCH_FRAMES and BATCH_BYTES but at least one: what one message can carry."""
    batch: list[GatewayFrame] = []
    size = 0
    while frames and len(batch) < BATCH_FRAMES and (not batch or size + frames[0].ByteSize() <= BATCH_BYTES):
        size += frames[0].ByteSize()
        batch.append(frames.popleft())
    return batch
