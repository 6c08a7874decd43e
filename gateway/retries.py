"""Repeating calls that no service has answered. Only for calls that may be made twice."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from services.shared.errors import STATUS_DETAILS_KEY

Result = TypeVar("Result")

ATTEMPTS = 3
FIRST_DELAY_SECONDS = 0.1


async def repeated(call: Callable[[float], Awaitable[Result]], timeout_seconds: float) -> Result:
    """The result of `call`, which is given the seconds it has left, after at most ATTEMPTS within the time-out.

    Repeats what failed on the way to a service (UNAVAILABLE), but not what the service itself answered.
    Waits a random part of a delay that doubles, so that callers who failed together do not return together.
    Raises what the last attempt raised.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    longest_delay = FIRST_DELAY_SECONDS
    for _ in range(ATTEMPTS - 1):
        try:
            return await call(deadline - loop.time())
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or _is_told_by_service(error):
                raise
            delay = random.uniform(0, longest_delay)  # noqa: S311 - spreads load, guards nothing
            if loop.time() + delay >= deadline:
                raise
        await asyncio.sleep(delay)
        longest_delay *= 2
    return await call(deadline - loop.time())


def _is_told_by_service(error: grpc.aio.AioRpcError) -> bool:
    """Whether the service itself answered, rather than the connection to it failing."""
    trailing: Any = error.trailing_metadata() or ()
    return any(key == STATUS_DETAILS_KEY for key, _ in trailing)
