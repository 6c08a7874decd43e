"""uvicorn's WebSocket protocol, able to write one ready-made frame to many sockets.

What a server sends is not masked (RFC 6455 section 5.1), so that a message for a whole room is the
same bytes for everybody: it is encoded once, and a socket that is not behind costs one write to
its transport. Everything else goes the ordinary way of ASGI.
"""

from asyncio import TimerHandle
from collections.abc import Callable

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

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
    _silence_timer: TimerHandle | None = None

    def handle_connect(self, event: Request) -> None:
        """Adds the extension to the scope before the application runs."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][WRITE_EXTENSION] = {"write": self.write_frame}
            self.scope["extensions"][PROBE_EXTENSION] = {"probe": self.probe}

    def data_received(self, data: bytes) -> None:
        """Notes that the client is there."""
        self._heard_at = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets a probe under way."""
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        super().connection_lost(exc)

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
