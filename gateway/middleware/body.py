"""Reads the request body, up to its limits in size and time."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import Exchange, exchange_of, media_type
from gateway.responses import ClientDisconnected
from services.shared.errors import ApiError, invalid_request

DISCARDED_BYTES = 32 * 1024 * 1024
DISCARDING_SECONDS = 5.0
"""How much of a refused body is read and dropped: a client that still writes does not read the refusal."""


class BodyReader:
    """Puts the body of an operation that has one into the exchange.

    413 when it is larger than `max_bytes`, told by Content-Length or found while reading; 408 when
    it takes longer than `timeout_seconds`.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        length = exchange.headers.get(b"content-length")
        if length is not None and self._is_too_large(length):
            if b"expect" not in exchange.headers:
                await _discard(receive)
            raise self._too_large()
        if exchange.operation is not None and exchange.operation.consumes:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    exchange.body = await self._read(receive)
            except TimeoutError as error:
                raise ApiError(408, "request_timeout", "The body did not arrive in time.") from error
        await self._app(scope, receive, send)

    def _is_too_large(self, length: bytes) -> bool:
        if not length.isdigit():
            raise invalid_request("The Content-Length header is not a number.")
        return len(length) > 18 or int(length) > self._max_bytes

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._max_bytes:
                if message.get("more_body", False):
                    await _discard(receive)
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            "payload_too_large",
            f"The body may have at most {self._max_bytes} bytes.",
            # Part of the body may be unread, so the connection cannot be used again.
            headers={"Connection": "close"},
        )


async def _discard(receive: Receive) -> None:
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARDING_SECONDS):
            while size < DISCARDED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def is_json(exchange: Exchange) -> bool:
    """Whether there is a body to be judged as JSON: `application/json` or a type built on it (RFC 6839)."""
    if not exchange.body or (exchange.operation is not None and exchange.operation.raw_body):
        return False
    return media_type(exchange.headers.get(b"content-type", b"")).endswith("json")
