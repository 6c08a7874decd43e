"""A keep-alive HTTP/1.1 connection that costs the client little, so that the server is what is measured.

It understands what the gateway sends: a status line, headers with Content-Length, a body.
"""

import asyncio
from typing import cast


class LoadConnection(asyncio.Protocol):
    """One request at a time over one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> "LoadConnection":
        """Connects."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    async def exchange(self, request: bytes) -> int:
        """Sends a whole request and returns the status of its whole answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: completes the answer when all of it has arrived."""
        self._buffer += data
        end_of_headers = self._buffer.find(b"\r\n\r\n")
        if end_of_headers < 0 or self._answer is None:
            return
        headers = bytes(self._buffer[:end_of_headers]).lower()
        start = headers.find(b"\r\ncontent-length:")
        length = int(headers[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        if len(self._buffer) >= end_of_headers + 4 + length:
            answer, self._answer = self._answer, None
            status = int(self._buffer[9:12])
            del self._buffer[: end_of_headers + 4 + length]
            answer.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))


def encode_request(method: str, path: str, host: str, token: str, body: str = "", content_type: str = "") -> bytes:
    """A request with a bearer token, ready to be sent."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body.encode())}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
