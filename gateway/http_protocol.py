"""uvicorn's HTTP protocol with an end to everything that a peer could go on with for ever.

Anybody may open a connection, and what happens before the application sees a request is memory
and time of all. Every head is bounded in bytes, fields and time, every body in time, and an
answer that its reader does not take is given up. What is refused here is answered like any other
error, and read on for a moment, because a connection that is closed on a sender takes the answer
with it (RFC 9112 section 9.6).
"""

import asyncio
import enum
import logging
import socket
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.connection_bounds import Bounds, nothing_counted
from gateway.responses import error_answer
from gateway.security_headers import mark
from gateway.sockets.protocol import RoomWebSocketProtocol
from services.shared.errors import ApiError, invalid_request
from services.shared.uuids import uuid4

logger = logging.getLogger("gateway.access")

MOST_PIPELINED = 16
"""Requests that may wait behind the one in hand (RFC 9112 section 9.3.2); nobody needs many."""
LINGER_SECONDS = 2.0
LINGER_BYTES = 1024 * 1024
DROPPED_BYTES = 32 * 1024 * 1024
"""How much of a body is dropped after its request was answered."""
LEAST_READ_BYTES = 64 * 1024
"""What a reader has to take of an answer in one write timeout."""
_UNSENT_BYTES = 128 * 1024
"""What the kernel may hold beyond what is in flight, so that a slow reader is told from none."""

_HANDSHAKE = (b"host", b"connection", b"upgrade", b"origin", b"x-request-id")
_HANDSHAKE_PREFIXES = (b"sec-websocket-", b"x-forwarded-")


class _Phase(enum.Enum):
    """What the peer is sending."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class _Refused(Exception):
    """Raised inside the parser to stop it."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection within its Bounds."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: Bounds,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds
        self._leave = nothing_counted
        self._phase = _Phase.NOTHING
        self._requests = 0
        self._fields = 0
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._dropped_bytes = 0
        self._in_hand: RequestResponseCycle | None = None
        self._refusal: ApiError | None = None
        self._lingering = False
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_of: tuple[int, _Phase] | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unread_bytes = 0

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time for the first head, or refuses one connection too many."""
        super().connection_made(transport)
        _limit_unsent(transport)
        leave = self._bounds.admit(self._address)
        if leave is None:
            message = "There are too many connections from this address."
            self._refuse(ApiError(429, "too_many_connections", message, headers={"Retry-After": "5"}))
            return
        self._leave = leave
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives back what the connection used."""
        self._leave()
        self._leave = nothing_counted
        self._bounds.unread.discard(self)
        self._disarm()
        if self._stall is not None:
            self._stall.cancel()
        self._forget_requests()
        super().connection_lost(exc)
        # Each knows the other: an answer of megabytes would wait for the garbage collector.
        self.cycle = None  # type: ignore[assignment]
        self._in_hand = None

    def handle_websocket_upgrade(self) -> None:
        """Hands the connection on, still counted, with the part of the head that a handshake is made of.

        The parser of the handshake takes lines of 8 KiB at most; cookies, which may be longer, say nothing there.
        """
        self._disarm()
        self.scope["headers"] = [
            (name, value)
            for name, value in self.scope["headers"]
            if name in _HANDSHAKE or name.startswith(_HANDSHAKE_PREFIXES)
        ]
        self.ws_protocol_class = cast(type[asyncio.Protocol], partial(RoomWebSocketProtocol, on_lost=self._leave))
        self._leave = nothing_counted
        super().handle_websocket_upgrade()

    # What the peer sends

    def data_received(self, data: bytes) -> None:
        """Parses what came, within the bounds of what is being sent."""
        if self._lingering or self._refusal is not None:
            self._drop(len(data), LINGER_BYTES)
            return
        before = (self._requests, self._phase)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
        except httptools.HttpParserError as error:
            violation = error.__context__
            if isinstance(violation, _Refused):
                self._refuse(violation.error)
            else:
                self._refuse(invalid_request("This is not an HTTP request."))
            return
        if self._lingering or self.transport.is_closing():
            return
        self._count_unparsed(before, len(data))
        if not self._lingering and self._refusal is None:
            self._watch()

    def on_message_begin(self) -> None:
        """Begins a head."""
        self._unset_keepalive_if_required()
        self._phase = _Phase.HEAD
        self._requests += 1
        self._fields = self._head_bytes = self._dropped_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Counts a part of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts a field. Trailers (RFC 9110 section 6.5) are dropped: they were no part of what a proxy checked."""
        self._fields += 1
        self._count(len(name) + len(value) + 4)
        if self._phase is _Phase.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begins the body, and the request."""
        self._unset_keepalive_if_required()
        if len(self.pipeline) >= MOST_PIPELINED:
            raise _Refused(ApiError(429, "too_many_requests", "Too many requests wait on this connection."))
        self._phase = _Phase.BODY
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hands a part of the body on, or drops it when the request was answered already."""
        super().on_body(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._drop(len(body), DROPPED_BYTES)

    def on_message_complete(self) -> None:
        """Ends the body."""
        self._phase = _Phase.NOTHING
        super().on_message_complete()

    def _count_unparsed(self, before: tuple[int, _Phase], size: int) -> None:
        """Counts what came between requests and in a head: the parser keeps a line until it ends."""
        if self._phase is _Phase.BODY:
            return
        if before == (self._requests, self._phase):
            self._unparsed_bytes += size
        elif self._phase is _Phase.HEAD and before == (self._requests - 1, _Phase.NOTHING):
            self._unparsed_bytes = size
        else:
            # A body or another request came with it; what is left over is less than one read.
            self._unparsed_bytes = 0
        if self._unparsed_bytes > self._bounds.head_bytes:
            self._refuse(_head_too_large(self._bounds))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._bounds.head_bytes or self._fields > self._bounds.head_fields:
            raise _Refused(_head_too_large(self._bounds))

    def _drop(self, size: int, most: int) -> None:
        self._dropped_bytes += size
        if self._dropped_bytes > most:
            self._give_up()

    # Time

    def _watch(self) -> None:
        """Sets the time for what is being sent, once for each head and each body."""
        sending = (self._requests, self._phase)
        if sending == self._deadline_of:
            return
        self._disarm()
        self._deadline_of = sending
        if self._phase is _Phase.HEAD or not self._requests:
            self._deadline = self.loop.call_later(self._bounds.head_seconds, self._late, "The head")
        elif self._phase is _Phase.BODY:
            self._deadline = self.loop.call_later(self._bounds.body_seconds, self._late, "The body")

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self, what: str) -> None:
        if not self._requests:
            self._close()
        else:
            self._refuse(ApiError(408, "request_timeout", f"{what} of the request did not arrive in time."))

    def timeout_keep_alive_handler(self) -> None:
        """Ends a connection on which nothing more was asked."""
        self._close()

    # What the peer reads

    def on_response_complete(self) -> None:
        """Goes on with the next request; an answer that ends the connection still has to be read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._flush()
        elif self._refusal is not None and not self._is_answering:
            self._answer_refusal(self._refusal)

    def pause_writing(self) -> None:
        """Gives the reader of an answer time to take some of it."""
        super().pause_writing()
        self._bounds.unread.add(self)
        self._give_time()
        self._bounds.make_room()

    def resume_writing(self) -> None:
        """The answer was read but for a rest."""
        super().resume_writing()
        self._bounds.unread.discard(self)
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self.transport.is_closing():
            self._flush()

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def unread_bytes(self) -> int:
        """What was answered and waits here for its reader."""
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Gives the connection up with everything that waits on it."""
        logger.info("answer not read", extra={"client": self._address})
        self._give_up()

    def _give_time(self) -> None:
        self._unread_bytes = self.unread_bytes
        self._stall = self.loop.call_later(self._bounds.write_seconds, self._check_reader)

    def _check_reader(self) -> None:
        if self._unread_bytes - self.unread_bytes < LEAST_READ_BYTES:
            self.abort()
        else:
            self._give_time()

    def _close(self) -> None:
        self.transport.close()
        self._flush()

    def _flush(self) -> None:
        """Closing waits for the reader, too, but not for ever."""
        if self._stall is None and self.unread_bytes:
            self._stall = self.loop.call_later(self._bounds.write_seconds, self.abort)

    # Refusing

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._in_hand = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_answering(self) -> bool:
        return self._in_hand is not None and not (self._in_hand.response_complete or self._in_hand.disconnected)

    def _give_up(self) -> None:
        """Ends the connection at once: nobody would see what else is written."""
        self._forget_requests()
        self.transport.abort()

    def _forget_requests(self) -> None:
        """Tells the request in hand, which uvicorn does only for the last one, and begins none of those behind it."""
        self.pipeline.clear()
        if self._in_hand is not None:
            self._in_hand.disconnected = True
            self._in_hand.message_event.set()

    def _refuse(self, error: ApiError) -> None:
        """Answers with the error and ends the connection, after the answers to the requests before."""
        if self._lingering or self._refusal is not None or self.transport.is_closing():
            return
        self._disarm()
        self._unset_keepalive_if_required()
        if self._phase is _Phase.BODY and self.cycle is not None:
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
            elif self.cycle.response_started:  # That answer is the one for this request.
                self._give_up()
                return
            else:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        if self._is_answering:
            self._refusal = error
            self._dropped_bytes = 0
        else:
            self._answer_refusal(error)

    def _answer_refusal(self, error: ApiError) -> None:
        self._unset_keepalive_if_required()
        self._lingering = True
        self._dropped_bytes = 0
        request_id = uuid4()
        logger.info(
            "refused",
            extra={"status": error.status, "code": error.code, "client": self._address, "request_id": request_id},
        )
        self.transport.write(error_bytes(error, request_id, self.server_state.default_headers))
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def error_bytes(error: ApiError, request_id: str, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole HTTP/1.1 answer for a connection that ends with it."""
    headers, body = error_answer(error, request_id)
    mark(headers)
    headers += [
        *default_headers,
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        (b"x-request-id", request_id.encode()),
    ]
    lines = [STATUS_LINE[error.status], *(name + b": " + value + b"\r\n" for name, value in headers)]
    return b"".join((*lines, b"\r\n", body))


def _head_too_large(bounds: Bounds) -> ApiError:
    return ApiError(
        431,
        "request_header_fields_too_large",
        f"The head of a request may have at most {bounds.head_bytes} bytes and {bounds.head_fields} fields.",
    )


def _limit_unsent(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT") and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
