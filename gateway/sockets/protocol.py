"""uvicorn's WebSocket protocol, able to write one ready-made frame to many sockets.

What a server sends is not masked (RFC 6455 section 5.1), so that a message for a whole room is the
same bytes for everybody: it is encoded once, and a socket that is not behind costs one write to
its transport. Everything else goes the ordinary way of ASGI.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from gateway.sockets.handshake import Handshake

WRITE_EXTENSION = "tmi.websocket.write_frame"
"""ASGI extension of a `websocket` scope: its `write` takes a frame and tells whether it was written."""

PROBE_EXTENSION = "tmi.websocket.probe"
"""Its `probe` pings the client, and drops the connection when nothing comes within SILENCE_SECONDS."""
SILENCE_SECONDS = 3.0

WriteFrame = Callable[[bytes], bool]


def text_frame(text: bytes) -> bytes:
    """An unmasked, unfragmented text frame (RFC 6455 section 5.2). text: UTF-8."""
    return Frame(Opcode.TEXT, text).serialize(mask=False, extensions=())


def frame_writer(scope: Scope) -> WriteFrame:
    """How to write a frame to the socket of this scope at once; never possible under another server."""
    extension = scope.get("extensions", {}).get(WRITE_EXTENSION)
    write: WriteFrame = extension["write"] if extension else _never
    return write


def prober(scope: Scope) -> Callable[[], None]:
    """How to find out whether the client of this scope is there; under another server nobody does."""
    extension = scope.get("extensions", {}).get(PROBE_EXTENSION)
    probe: Callable[[], None] = extension["probe"] if extension else _nothing
    return probe


def _nothing() -> None:
    return None


def _never(_: bytes) -> bool:
    return False


class RoomWebSocketProtocol(WebSocketsSansIOProtocol):
    """Offers WRITE_EXTENSION and PROBE_EXTENSION to the application."""

    _heard_at = 0.0
    _silence_timer: asyncio.TimerHandle | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """on_lost: called when the connection has ended."""
        super().__init__(config, server_state, app_state, _loop)
        self._on_lost = on_lost
        # Of its own logger, which is quiet: at the level `debug` it would log targets, tickets included.
        self.conn = Handshake(max_size=config.ws_max_size, logger=logging.getLogger("websockets.server"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets a probe under way, and tells who counts connections."""
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        super().connection_lost(exc)
        if self._on_lost is not None:
            self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Notes that the client is there; answers a handshake that could not even be parsed, as uvicorn does not."""
        self._heard_at = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            output = self.conn.data_to_send()
            if not any(output):
                output = [self.conn.reject(400, "This is not a WebSocket handshake.").serialize()]
            self._end_handshake(output)

    def _end_handshake(self, output: list[bytes]) -> None:
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.transport.write(b"".join(output))
        self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Adds the extensions to the scope before the application runs."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][WRITE_EXTENSION] = {"write": self.write_frame}
            self.scope["extensions"][PROBE_EXTENSION] = {"probe": self.probe}

    def probe(self) -> None:
        """Pings the client (RFC 6455 section 5.5.2), and drops the connection when it stays silent."""
        if self._silence_timer is None and not self.close_sent and self.conn.state is State.OPEN:
            self.conn.send_ping(b"probe")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._silence_timer = self.loop.call_later(SILENCE_SECONDS, self._judge_silence, self.loop.time())

    def _judge_silence(self, probed_at: float) -> None:
        self._silence_timer = None
        # What is not read cannot be heard.
        if self._heard_at < probed_at and not self.read_paused:
            self.transport.abort()

    async def send(self, message: Any) -> None:
        """Sends; a handshake that was refused is complete with its answer, which uvicorn takes for a mistake."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def write_frame(self, frame: bytes) -> bool:
        """Writes a frame; False when that would have to wait, or the connection is not open.

        The caller must not do so while a `send` is under way, which may be waiting to write.
        """
        if (
            not self.writable.is_set()
            or self.close_sent
            or self.disconnected
            or not self.handshake_complete
            # An extension such as permessage-deflate would have to transform the frame.
            or self.conn.extensions
            or self.conn.state is not State.OPEN
        ):
            return False
        self.transport.write(frame)
        return True
