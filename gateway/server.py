"""The ASGI server, which says that it will stop before it does."""

import asyncio
import logging
from collections.abc import Callable
from types import FrameType

import uvicorn

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT it announces the end, serves on for `delay_seconds`, then stops accepting and drains.

    Whoever balances load needs that moment to see that this process is not ready any more: connections
    that it makes meanwhile are served. A second signal ends the delay.
    """

    def __init__(self, config: uvicorn.Config, *, announce: Callable[[], None], delay_seconds: float) -> None:
        super().__init__(config)
        self._announce = announce
        self._delay_seconds = delay_seconds
        self._announced = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        if self._announced or not self.started or not self._delay_seconds:
            super().handle_exit(sig, frame)
            return
        self._announced = True
        self._announce()
        logger.info("stopping", extra={"after_seconds": self._delay_seconds})
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, self._delay_seconds, super().handle_exit, sig, frame)
