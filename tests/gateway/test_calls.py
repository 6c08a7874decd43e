"""What is left of a call when it is over."""

import asyncio
import gc
import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from gateway.calls import DisconnectWatch

pytestmark = pytest.mark.anyio


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Answer:
    """Stands for what a call and its connection hold."""

    def cancel(self) -> None: ...

    async def receive(self) -> MutableMapping[str, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


@pytest.mark.usefixtures("no_collector")
async def test_a_watch_keeps_nothing_until_the_garbage_collector_comes() -> None:
    answer = Answer()
    gone = weakref.ref(answer)
    with DisconnectWatch(answer.cancel, answer.receive, after_seconds=0):
        await asyncio.sleep(0.001)  # it has begun to look
        assert len(asyncio.all_tasks()) > 1
    del answer
    async with asyncio.timeout(10):
        while gone() is not None:  # noqa: ASYNC110 - being freed sets no event
            await asyncio.sleep(0)
