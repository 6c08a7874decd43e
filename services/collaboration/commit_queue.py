"""Operations of one diagram on their way to the sequencer, one group at a time."""

from collections import deque
from dataclasses import dataclass

from tmi.threat_model.v1.sequencer_pb2 import OperationRequest

GROUP_OPERATIONS = 64
GROUP_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PendingOperation:
    """An operation and whom to tell its outcome. link: stream it came on; number: message to acknowledge."""

    request: OperationRequest
    link: str
    number: int


class CommitQueue:
    """While a group is being committed, what arrives waits and becomes the next group."""

    def __init__(self) -> None:
        self._waiting: deque[PendingOperation] = deque()
        self._in_flight: list[PendingOperation] = []
        # How many operations ever came, and of how many the outcome is known.
        self.added = 0
        self.finished = 0

    def add(self, operation: PendingOperation) -> None:
        """Queues an operation."""
        self._waiting.append(operation)
        self.added += 1

    def next_group(self) -> list[PendingOperation]:
        """The group to commit now; empty while one is in flight or nothing waits."""
        if self._in_flight:
            return []
        size = 0
        while self._waiting and len(self._in_flight) < GROUP_OPERATIONS:
            size += len(self._waiting[0].request.operation)
            if self._in_flight and size > GROUP_BYTES:
                break
            self._in_flight.append(self._waiting.popleft())
        return self._in_flight

    def finish(self) -> list[PendingOperation]:
        """The group that was in flight, whose outcome is known."""
        group, self._in_flight = self._in_flight, []
        self.finished += len(group)
        return group

    @property
    def is_empty(self) -> bool:
        """True when nothing waits and nothing is in flight."""
        return not self._waiting and not self._in_flight
