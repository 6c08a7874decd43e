"""Work on bodies that is done beside the event loop when a body is large."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LARGE_BYTES = 64 * 1024

Result = TypeVar("Result")

_WORKER = ThreadPoolExecutor(1, "bodies")
"""One thread: what it does takes turns with the event loop anyway, and what it parses is in memory once."""


async def off_loop(work: Callable[[bytes], Result], body: bytes) -> Result:
    """The result of the work, done at once for a small body and in a thread for a large one."""
    if len(body) <= LARGE_BYTES:
        return work(body)
    return await asyncio.get_running_loop().run_in_executor(_WORKER, work, body)
