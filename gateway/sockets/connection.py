"""One accepted WebSocket: the client's messages into the room, the room's texts out to the client."""

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.types import Receive, Send

from gateway.sockets.attachment import Attachment
from gateway.sockets.delivery import SocketDelivery
from gateway.sockets.inspection import inspect
from gateway.sockets.protocol import WriteFrame
from tmi.principal.v1.principal_pb2 import Principal

logger = logging.getLogger(__name__)

CLOSE_UNAUTHORIZED = 4401
CLOSE_SECONDS = 10.0
"""How long a client that does not read may take to receive the close frame."""


class Connection:
    """Runs a socket from its acceptance to its end."""

    def __init__(
        self,
        principal: Principal,
        receive: Receive,
        send: Send,
        *,
        write_frame: WriteFrame,
        probe: Callable[[], None],
        max_message_bytes: int,
    ) -> None:
        self.principal = principal
        self._max_message_bytes = max_message_bytes
        self._receive = receive
        self._send = send
        self._write_frame = write_frame
        self._probe = probe
        # Pending while the writer has nothing to do. A plain future: an event costs more.
        self._work: asyncio.Future[None] | None = None
        self._may_read = asyncio.Event()
        self._is_blocked = False
        self._socket: SocketDelivery | None = None
        self._writer: asyncio.Task[None] | None = None
        self._close_deadline: asyncio.TimerHandle | None = None

    def revoke(self, reason: str) -> None:
        """Closes the socket because its access token is no longer good."""
        if self._socket is not None:
            self._socket.close(CLOSE_UNAUTHORIZED, reason)

    async def run(self, attachment: Attachment, socket_id: str) -> None:
        """Serves the socket until either side closes it."""
        loop = asyncio.get_running_loop()
        self._socket = attachment.join(socket_id, self.principal, self._wake, self._write_now, self._probe)
        remaining = max(self.principal.expires_at - time.time(), 0.0)
        expiry = loop.call_later(remaining, self.revoke, "token expired")
        reader = asyncio.create_task(self._read(attachment, self._socket))
        writer = self._writer = asyncio.create_task(self._write(self._socket))
        try:
            await asyncio.wait([reader, writer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            expiry.cancel()
            if self._close_deadline:
                self._close_deadline.cancel()
            attachment.leave(self._socket)
            for task in (reader, writer):
                task.cancel()
            outcomes = await asyncio.gather(reader, writer, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                logger.error("socket failed", extra={"socket_id": socket_id}, exc_info=outcome)

    def _wake(self) -> None:
        socket = self._socket
        work = self._work
        if socket and (socket.queue or socket.closing) and work is not None and not work.done():
            work.set_result(None)
        if self._is_blocked:
            self._may_read.set()
        if socket and socket.closing and self._writer and not self._close_deadline:
            # A client that does not read must not keep the socket in the room.
            self._close_deadline = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._writer.cancel)

    def _write_now(self, frame: bytes) -> bool:
        """Writes a frame past the queue, which is empty and stays in order while the writer is idle."""
        work = self._work
        return work is not None and not work.done() and self._write_frame(frame)

    async def _read(self, attachment: Attachment, socket: SocketDelivery) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return
            text = event.get("text")
            whole = text.encode() if text is not None else event["bytes"]
            attachment.message(socket, *inspect(whole, self._max_message_bytes))
            while not socket.can_send_more:
                self._is_blocked = True
                self._may_read.clear()
                await self._may_read.wait()
                self._is_blocked = False

    async def _write(self, socket: SocketDelivery) -> None:
        loop = asyncio.get_running_loop()
        queue = socket.queue
        send = self._send
        while True:
            while queue:
                await send({"type": "websocket.send", "text": socket.take()})
            socket.drained()
            if socket.closing:
                code, reason = socket.closing
                await send({"type": "websocket.close", "code": code, "reason": reason})
                return
            self._work = loop.create_future()
            await self._work
