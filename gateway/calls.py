"""Calling a service on behalf of a client: again where that is safe, and no longer than the client waits."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

from starlette.types import Receive

from gateway.http_methods import READS
from gateway.responses import ClientDisconnected, RawHeaders
from gateway.retries import repeated
from services.shared.rpc import HTTP_HEADER_PREFIX, HTTP_STATUS_KEY

Result = TypeVar("Result")


async def again_for_reads(method: str, attempt: Callable[[float], Awaitable[Result]], timeout_seconds: float) -> Result:
    """Makes the attempt, which is given the seconds it has; for a read as often as `repeated` allows."""
    if method in READS:
        return await repeated(attempt, timeout_seconds)
    return await attempt(timeout_seconds)


def head_of_answer(metadata: Any, success_status: int) -> tuple[int, RawHeaders]:
    """Status and headers of the answer, as the service put them into its metadata."""
    status = success_status
    headers: RawHeaders = []
    for key, value in metadata:
        if key.startswith(HTTP_HEADER_PREFIX):
            headers.append((key[len(HTTP_HEADER_PREFIX) :].encode(), value.encode("latin-1")))
        elif key == HTTP_STATUS_KEY:
            status = int(value)
    return status, headers


class DisconnectWatch:
    """Cancels a call when its client disconnects, which then raises ClientDisconnected out of the block.

    It begins to look after some seconds, so that it costs no more than a timer where a call is short.
    """

    __slots__ = ("_cancel", "_receive", "_task", "_timer", "disconnected")

    def __init__(self, cancel: Callable[[], object], receive: Receive, *, after_seconds: float) -> None:
        self._cancel = cancel
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(after_seconds, self._start)
        self.disconnected = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            # Its traceback names this object: an answer of megabytes would wait for the garbage collector.
            self._task = None
        if isinstance(error, asyncio.CancelledError) and self.disconnected:
            raise ClientDisconnected from None

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.disconnected = True
        self._cancel()
