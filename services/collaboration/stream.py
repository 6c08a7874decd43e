"""The frames on their way to one gateway."""

import asyncio
from collections import deque

from tmi.collaboration.v1.rooms_pb2 import RoomFrame

BACKLOG_FRAMES = 10_000
BACKLOG_BYTES = 256 * 1024 * 1024
"""How far a stream may be behind; then it is ended and its gateway starts over from what it has. There
is room for the state of every socket of a full session."""
BATCH_BYTES = 1024 * 1024
"""Frames are put together up to this."""


class Stream:
    """A queue with an end."""

    def __init__(self) -> None:
        self._frames: deque[RoomFrame] = deque()
        self._bytes = 0
        self._has_ended = False
        self._changed = asyncio.Event()

    def put(self, frame: RoomFrame) -> None:
        """Queues a frame, unless the stream has been ended."""
        if not self._has_ended:
            self._frames.append(frame)
            self._bytes += frame.ByteSize()
            self._changed.set()

    @property
    def is_overfull(self) -> bool:
        """True when the gateway is too far behind."""
        return len(self._frames) > BACKLOG_FRAMES or self._bytes > BACKLOG_BYTES

    def end(self) -> None:
        """Nothing comes behind what is queued."""
        self._has_ended = True
        self._changed.set()

    def cut(self) -> None:
        """Ends the stream without what is queued."""
        self._frames.clear()
        self._bytes = 0
        self.end()

    async def next_batch(self) -> list[RoomFrame]:
        """The next frame and those behind it, up to BATCH_BYTES; nothing when the stream has ended."""
        while not self._frames and not self._has_ended:
            self._changed.clear()
            await self._changed.wait()
        batch: list[RoomFrame] = []
        size = 0
        while self._frames and (not batch or size + self._frames[0].ByteSize() <= BATCH_BYTES):
            batch.append(self._frames.popleft())
            size += batch[-1].ByteSize()
        self._bytes -= size
        return batch
