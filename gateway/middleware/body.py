"""Reads the request body, up to its limits in size and time, and no more of a stranger's than it has to."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import Exchange, exchange_of, media_type
from gateway.responses import ClientDisconnected
from services.shared.errors import ApiError, invalid_request, unavailable

UNVERIFIED_BYTES = 64 * 1024
"""What is kept of a body before its caller is known, and the most that an operation for everybody takes."""
DISCARDED_BYTES = 32 * 1024 * 1024
DISCARDING_SECONDS = 30.0
"""How much of a refused body is read and dropped: a client that still writes does not read the refusal."""

Admit = Callable[[Exchange], Awaitable[None]]


class BodyBudget:
    """Bytes that the bodies of all requests in hand may take together."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Takes bytes, each time it is called, until the block ends. Raises ApiError 503 when there are none left."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                raise unavailable("Too many large requests at the moment.", retry_after_seconds=2)
            self._left -= size
            taken += size

        try:
            yield take
        finally:
            self._left += taken


class BodyReader:
    """Puts the body of an operation that has one into the exchange.

    413 when it is larger than `max_bytes`, told by Content-Length or found while reading; 408 when
    it takes longer than `timeout_seconds`. Beyond UNVERIFIED_BYTES the operation must not be one for
    everybody (413), and `admit` is asked about the caller, whose ApiError is the answer; 503 when
    `budget` is spent. What is refused is answered when the rest of the body has been dropped.
    """

    def __init__(
        self, app: ASGIApp, *, admit: Admit, budget: BodyBudget, max_bytes: int, timeout_seconds: float
    ) -> None:
        self._app = app
        self._admit = admit
        self._budget = budget
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        length = _declared_length(exchange)
        if length > self._max_bytes:
            await self._refuse(exchange, receive, _too_large(self._max_bytes))
        if exchange.operation is None or not exchange.operation.consumes:
            await self._app(scope, receive, send)
            return
        with self._budget.share() as take:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    exchange.body = await self._read(exchange, receive, take, length)
            except TimeoutError as error:
                raise ApiError(408, "request_timeout", "The body did not arrive in time.") from error
            await self._app(scope, receive, send)

    async def _read(self, exchange: Exchange, receive: Receive, take: Callable[[int], None], length: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        admitted = False
        more = True
        while more or (not admitted and size > UNVERIFIED_BYTES):
            if not admitted and max(size, length) > UNVERIFIED_BYTES:
                try:
                    await self._require_admission(exchange)
                except ApiError as error:
                    await self._refuse(exchange, receive, error, size, more=more)
                admitted = True
                continue
            chunk, more = await _next(receive)
            size += len(chunk)
            try:
                if size > self._max_bytes:
                    raise _too_large(self._max_bytes)
                take(len(chunk))
            except ApiError as error:
                await self._refuse(exchange, receive, error, size, more=more)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _require_admission(self, exchange: Exchange) -> None:
        assert exchange.operation is not None
        if exchange.operation.public:
            raise _too_large(UNVERIFIED_BYTES)
        await self._admit(exchange)

    async def _refuse(
        self, exchange: Exchange, receive: Receive, error: ApiError, size: int = 0, *, more: bool = True
    ) -> None:
        """Drops the rest of the body and raises the error, or 413 when the body turns out to be too large.

        Nothing is dropped of a body that its client has not begun to send (RFC 9110 section 10.1.1).
        """
        if more and (size or b"expect" not in exchange.headers):
            size = await _discard(receive, size)
        if size > self._max_bytes:
            error = _too_large(self._max_bytes)
        # Part of the body may be unread, so the connection cannot be used again.
        error.headers["Connection"] = "close"
        raise error


def _declared_length(exchange: Exchange) -> int:
    """Content-Length, 0 when there is none. Raises ApiError 400."""
    length = exchange.headers.get(b"content-length")
    if length is None:
        return 0
    if not length.isdigit():
        raise invalid_request("The Content-Length header is not a number.")
    return int(length[:19])


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, "payload_too_large", f"The body may have at most {max_bytes} bytes.")


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnected
    return message.get("body", b""), message.get("more_body", False)


async def _discard(receive: Receive, size: int) -> int:
    """Reads on until the end or a limit; how large the body was found to be."""
    most = size + DISCARDED_BYTES
    more = True
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARDING_SECONDS):
            while more and size < most:
                chunk, more = await _next(receive)
                size += len(chunk)
    return size


def is_json(exchange: Exchange) -> bool:
    """Whether there is a body to be judged as JSON: `application/json` or a type built on it (RFC 6839)."""
    if not exchange.body or (exchange.operation is not None and exchange.operation.raw_body):
        return False
    return media_type(exchange.headers.get(b"content-type", b"")).endswith("json")
