"""What a replica does by the clock: presence, access, the log when the relay is down, idle sessions."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from services.collaboration.presence import HEARTBEAT_SECONDS
from services.collaboration.relay import Relay
from services.collaboration.rooms_service import RoomsService
from services.collaboration.sequencer_client import SequencerClient
from services.shared.errors import ApiError

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
DEGRADED_POLL_SECONDS = 0.25
"""How often the log is read while the relay is down."""
HEALTHY_POLL_SECONDS = 5.0
"""And while it works, because a lost frame that no other follows leaves no gap to notice."""
ACCESS_SECONDS = 20.0
TOUCH_SECONDS = 20.0
EMPTY_SESSION_SECONDS = 60.0
"""A session that no replica has noted as connected or active for this long is over."""
ENDED_IDLE = "The collaboration session has ended because of inactivity."


class Sweeper:
    """Runs periodic work until stopped."""

    def __init__(
        self,
        rooms: RoomsService,
        sequencer: SequencerClient,
        relay: Relay,
        inactivity_timeout_seconds: float,
    ) -> None:
        self._rooms = rooms
        self._sequencer = sequencer
        self._relay = relay
        # A session is over EMPTY_SESSION_SECONDS after the last touch, so touching ends that much earlier: the
        # session then lasts its time, and longer by no more than two intervals.
        self._touch_within_seconds = max(inactivity_timeout_seconds - EMPTY_SESSION_SECONDS + TOUCH_SECONDS, 0.0)
        self._empty_seconds = min(EMPTY_SESSION_SECONDS, inactivity_timeout_seconds)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to work in the running event loop."""
        self._tasks = [
            asyncio.create_task(self._every(TICK_SECONDS, self._tick)),
            asyncio.create_task(self._poll()),
            asyncio.create_task(self._every(HEARTBEAT_SECONDS, self._heartbeat)),
            asyncio.create_task(self._every(ACCESS_SECONDS, self._recheck_access)),
            asyncio.create_task(self._every(TOUCH_SECONDS, self.sweep)),
        ]

    async def stop(self) -> None:
        """Ends its tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except ApiError as error:
                logger.info("sweep put off", extra={"error": error.code})
            except Exception:
                logger.exception("sweep failed")

    async def _tick(self) -> None:
        for room in self._rooms.rooms:
            room.tick()

    async def _poll(self) -> None:
        next_at = 0.0
        while True:
            await asyncio.sleep(DEGRADED_POLL_SECONDS)
            if self._relay.is_healthy and time.monotonic() < next_at:
                continue
            next_at = time.monotonic() + HEALTHY_POLL_SECONDS
            for room in self._rooms.rooms:
                room.poll()

    async def _heartbeat(self) -> None:
        await asyncio.gather(*(room.heartbeat() for room in self._rooms.rooms))

    async def _recheck_access(self) -> None:
        for room in self._rooms.rooms:
            room.recheck_access()

    async def sweep(self) -> None:
        """Notes which sessions are alive and ends those that nobody has noted for long."""
        now = time.time()
        active = [
            room.session_id
            for room in self._rooms.rooms
            if room.room.sockets and now - room.room.last_activity_at <= self._touch_within_seconds
        ]
        if active:
            still_open = await self._sequencer.touch_sessions(active)
            for session_id in set(active) - still_open:
                if room := self._rooms.room(session_id):
                    room.poll()
        idle_since = now - self._empty_seconds
        for session in await self._sequencer.idle_sessions(idle_since):
            if await self._sequencer.close_session(session.diagram_id, session.session_id, idle_since):
                logger.info("idle session ended", extra={"session_id": session.session_id})
                self._rooms.announce_end(session.session_id, ENDED_IDLE)
