"""Streamed answers: what a service sends reaches the client chunk by chunk, as it comes.

Nothing is collected, compressed or given a length. There is no deadline; a stream ends when its service ends
it, when its client goes, or when nothing could be handed on for too long.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from starlette.types import Receive, Send

from gateway.calls import DisconnectWatch, again_for_reads, head_of_answer
from gateway.exchange import Exchange
from gateway.responses import ClientDisconnected, begin_response, send_chunk
from services.shared.errors import unavailable

_END: Any = grpc.aio.EOF  # type: ignore[attr-defined]
_UNBUFFERED = (b"x-accel-buffering", b"no")
"""Asks a reverse proxy to hand the chunks on at once as well."""


async def relay(
    exchange: Exchange,
    receive: Receive,
    send: Send,
    start: Callable[[], Any],
    *,
    success_status: int,
    first_seconds: float,
    idle_seconds: float,
) -> None:
    """Answers with the messages (google.api.HttpBody) of the call that `start` makes.

    first_seconds: how long the first one may take; until it is there, what fails is an ordinary answer.
    idle_seconds: how long each later one may take, and the client to take it.
    Raises AioRpcError, ApiError 503 for a service that is silent, ClientDisconnected.
    """
    call: Any = None

    async def first_message(seconds: float) -> Any:
        nonlocal call
        call = start()
        return await _next(call, seconds)

    with DisconnectWatch(lambda: call is None or call.cancel(), receive, after_seconds=0):
        try:
            message = await again_for_reads(exchange.method, first_message, first_seconds)
            status, headers = head_of_answer(await call.initial_metadata(), success_status)
            headers.append(_UNBUFFERED)
            if message is not _END and message.content_type:
                headers.append((b"content-type", message.content_type.encode()))
            await begin_response(exchange, send, status, headers)
            while message is not _END and exchange.method != "HEAD":
                if message.data:
                    await _hand_on(send, message.data, idle_seconds)
                message = await _next(call, idle_seconds)
            await send_chunk(send, b"", more=False)
        finally:
            if call is not None:
                call.cancel()


async def _next(call: Any, seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await call.read()
    except TimeoutError as error:
        raise unavailable("The service is silent.") from error


async def _hand_on(send: Send, chunk: bytes, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await send_chunk(send, chunk, more=True)
    except TimeoutError as error:
        raise ClientDisconnected from error
