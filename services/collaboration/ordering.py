"""Committed operations of one diagram, put into vector order whatever way they arrive."""

from collections.abc import Iterable

from tmi.threat_model.v1.sequencer_pb2 import CommittedOperation

AHEAD_LIMIT = 5000


class OrderedLog:
    """Takes operations in any order, with repetitions, and hands them out once, without a gap.

    position: vector of the last operation handed out; None before the first snapshot. since: every
    operation after it, up to the position, was handed out in this order at least once.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self.since = 0
        self._ahead: dict[int, CommittedOperation] = {}
        self._head = 0

    def reset(self, vector: int) -> None:
        """Continues after `vector`, whether that lies ahead or behind."""
        if self.position is None or not self.since <= vector <= self.position:
            self.since = vector
        self.position = vector
        self._ahead = {known: operation for known, operation in self._ahead.items() if known > vector}

    def forget(self) -> None:
        """Waits for a snapshot: the operations that come next cannot be had any more."""
        self.position = None

    def learn_head(self, vector: int) -> None:
        """Notes that the diagram has reached `vector`."""
        self._head = max(self._head, vector)

    def confirm_head(self, vector: int) -> None:
        """Notes that the log, read just now, ends at `vector`."""
        self._head = max(vector, self.position or 0, *self._ahead)

    def add(self, operations: Iterable[CommittedOperation]) -> None:
        """Takes operations; those already handed out are ignored."""
        for operation in operations:
            self.learn_head(operation.update_vector)
            if self.position is None or operation.update_vector > self.position:
                self._ahead[operation.update_vector] = operation
        if len(self._ahead) > AHEAD_LIMIT:
            # The rest can be read again; the nearest are kept, so that there is always progress.
            nearest = sorted(self._ahead)[:AHEAD_LIMIT]
            self._ahead = {vector: self._ahead[vector] for vector in nearest}

    def take(self) -> list[CommittedOperation]:
        """Operations that follow the position without a gap, which moves behind them."""
        taken: list[CommittedOperation] = []
        if self.position is None:
            return taken
        while operation := self._ahead.pop(self.position + 1, None):
            taken.append(operation)
            self.position += 1
        return taken

    @property
    def is_behind(self) -> bool:
        """True when the diagram is known to have operations that were not handed out."""
        return self.position is not None and self._head > self.position
