"""Whose screen shows something else than the diagram, and what it has to be sent to be right again.

A client draws its own edit at once and is not sent it again. When an older operation of somebody else
on the same cell reaches it after that, it draws that one over its own, while the diagram has its own
on top. Events carry whole cells, so the newest one of a cell, sent to this client as an event of the
overtaken author, mends it. A diagram_state that does not contain the edit yet wipes it in the same way
and is followed by another one.

`base_vector` tells what a client had drawn when it sent an operation. A correction counts as such an
older event itself: whoever goes on drawing before it arrives is corrected again, when they pause. It has
arrived for sure only with an event behind it, and is assumed to have after a while. A socket that another
replica served before may have been sent a correction for any cell.

Web clients gather what is drawn for 50 ms and name the vector of the end of that time: whatever was sent to
one just before may have been drawn later than the edit, whatever `base_vector` says. Times are Unix seconds.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson

from services.collaboration.outbox import MessageKey
from tmi.threat_model.v1.sequencer_pb2 import CommittedOperation

QUIET_SECONDS = 0.1
"""A correction waits for a pause of its client, whose hand would be pushed aside otherwise,"""
LONGEST_WAIT_SECONDS = 1.0
"""but not longer than this."""
GATHERING_SECONDS = 1.0
"""For how long base_vector proves nothing: the gathering, and the way to the client and back."""
CROSSING_SECONDS = 5.0
"""How long a correction may take to be drawn."""
HISTORY_CELLS = 20_000
RECENT_CELLS = 256
RECENT_OPERATION_BYTES = 64 * 1024
"""Of so many cells the newest entry is kept, if its operation was not larger, for operations that are judged late."""


@dataclass(frozen=True, slots=True)
class _Change:
    """An operation. author: User object as JSON. at: when it was sent to the sockets here."""

    vector: int
    author: bytes
    at: float


_NEVER = _Change(-1, b"", float("-inf"))


@dataclass(slots=True)
class _LastChanges:
    """The newest operation on a cell and the newest one of another author."""

    newest: _Change
    other: _Change

    def note(self, change: _Change) -> None:
        if change.vector > self.newest.vector:
            if change.author != self.newest.author:
                self.other = self.newest
            self.newest = change
        elif change.author != self.newest.author and change.vector > self.other.vector:
            self.other = change

    def by_others(self, author: bytes) -> _Change:
        return self.newest if self.newest.author != author else self.other


@dataclass(frozen=True, slots=True)
class _Sent:
    """A correction or state that was sent. certain, possible: see `may_come_after`."""

    certain: int
    possible: int
    at: float

    def may_come_after(self, base: int, now: float) -> bool:
        """True when an operation drawn on `base` and received now may have been drawn before this."""
        age = now - self.at
        return base < self.certain or age < GATHERING_SECONDS or (base <= self.possible and age < CROSSING_SECONDS)


@dataclass(slots=True)
class Owed:
    """What one socket has to be sent: cells as they are, or the whole state.

    owner, author: User objects as JSON, of the socket and of whom it was overtaken by. cells: by id, the
    vector and entry of the newest operation. state_vector: of the oldest state that would do, -1 for none.
    """

    owner: bytes
    longest_at: float
    due_at: float = 0.0
    vector: int = 0
    author: bytes = b""
    cells: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    state_vector: int = -1
    acks: list[MessageKey] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        """True when the screen is right."""
        return not self.cells and self.state_vector < 0

    def operation(self) -> bytes:
        """The cells as an `operation` object. Labels of edges stay out: web clients clear them at any update."""
        return orjson.dumps({"type": "patch", "cells": [_without_labels(entry) for _, entry in self.cells.values()]})


class Corrections:
    """Compares what the sockets of this replica have drawn with the order of the operations."""

    def __init__(self, start_vector: int) -> None:
        """start_vector: the diagram's when the session began; nobody had drawn anything then."""
        self._start_vector = start_vector
        # What cells of operations up to this vector were changed by is forgotten.
        self._forgotten = -1
        self._cells: dict[str, _LastChanges] = {}
        # The same for all cells together.
        self._anywhere = _LastChanges(_NEVER, _NEVER)
        # base_vector of each operation that is not settled and when it came, by socket and number.
        self._bases: dict[str, dict[int, tuple[int, float]]] = {}
        self._owed: dict[str, Owed] = {}
        self._recent: dict[str, tuple[int, dict[str, Any]]] = {}
        # Corrections that were sent, by socket and cell.
        self._corrected: dict[str, dict[str, _Sent]] = {}
        # What may have replaced any cell of a socket: a state, or a correction by another replica.
        self._replaced: dict[str, _Sent] = {}

    def drawn(self, socket_id: str, number: int, base_vector: int, now: float) -> None:
        """A socket sent an operation; base_vector: what it had seen of the diagram then."""
        self._bases.setdefault(socket_id, {})[number] = (base_vector, now)

    def taken_over(self, socket_id: str, carried: int, now: float) -> None:
        """A socket comes from another replica, or comes back; carried: vector of its stream."""
        self._replaced[socket_id] = _Sent(-1, carried, now)

    def refused(self, socket_id: str, number: int) -> None:
        """The operation will not take effect."""
        self._bases.get(socket_id, {}).pop(number, None)

    def forget(self, socket_id: str) -> list[MessageKey]:
        """The socket is not here any more; answers what can be acknowledged because nobody is to be corrected."""
        for known in (self._bases, self._corrected, self._replaced):
            known.pop(socket_id, None)
        owed = self._owed.pop(socket_id, None)
        return owed.acks if owed else []

    def judge(self, key: MessageKey, operation: CommittedOperation, known_after: int, now: float) -> bool:
        """An operation of a socket took effect; False when its screen is right and the message can be acknowledged.

        known_after: all operations since this vector were noted. To be called before `note`, unless the
        operation was committed before and is only repeated.
        """
        _, socket_id, number = key
        base, came_at = self._bases.get(socket_id, {}).pop(number, (operation.update_vector, now))
        owed = self._owed.get(socket_id) or Owed(operation.initiating_user, now + LONGEST_WAIT_SECONDS)
        vector = operation.update_vector
        corrected = self._corrected.get(socket_id, {})
        replaced = self._replaced.get(socket_id)
        if replaced and vector <= replaced.certain:
            return False  # the state contains it
        known_after = max(known_after, self._forgotten)
        is_unknown = base < known_after
        is_overtaken = False
        for entry in _entries(operation):
            cell_id = entry["id"]
            last = self._cells.get(cell_id)
            newest_vector = last.newest.vector if last else -1
            other = last.by_others(owed.owner) if last else _NEVER
            if other.vector > vector:
                continue  # that event has shown or will show the cell as it is
            if not (
                other.vector > base
                or came_at - other.at < GATHERING_SECONDS
                or is_unknown
                or cell_id in owed.cells
                or any(sent and sent.may_come_after(base, came_at) for sent in (corrected.get(cell_id), replaced))
            ):
                corrected.pop(cell_id, None)
                continue
            author = other.author or self._anywhere.by_others(owed.owner).author
            newest = (vector, entry)
            if newest_vector > vector:
                newest = self._recent.get(cell_id, newest)
            if author and newest[0] >= newest_vector and vector > known_after:
                owed.author = author
                owed.cells[cell_id] = newest
            elif is_unknown or known_after > self._start_vector or (replaced and base < replaced.certain):
                # There is nobody whose event the client would draw, or nothing to put into it.
                owed.state_vector = max(owed.state_vector, newest[0], vector)
            else:
                continue
            is_overtaken = True
        if is_overtaken and not owed.is_settled:
            self._owed[socket_id] = owed
            owed.vector = vector
            owed.acks.append(key)
            owed.due_at = min(now + QUIET_SECONDS, owed.longest_at)
            return True
        return False

    def take_due(self, now: float) -> list[tuple[str, Owed]]:
        """What is to be sent now, by socket."""
        due = [(socket_id, owed) for socket_id, owed in self._owed.items() if owed.due_at <= now]
        for socket_id, _ in due:
            del self._owed[socket_id]
        return due

    def sent(self, socket_id: str, owed: Owed, now: float) -> None:
        """The cells were sent as a correction, behind every event that was noted."""
        seen = self._anywhere.by_others(owed.owner).vector
        # Nothing but the correction tells the client the vector of an own operation.
        sent = _Sent(max(owed.vector, seen), seen if seen > owed.vector else -1, now)
        self._corrected.setdefault(socket_id, {}).update(dict.fromkeys(owed.cells, sent))

    @property
    def wake_at(self) -> float | None:
        """When something will be due; None when nothing is owed."""
        return min((owed.due_at for owed in self._owed.values()), default=None)

    def state_sent(
        self, socket_id: str, vector: int, *, lacks: int | None, is_first: bool, now: float
    ) -> list[MessageKey]:
        """A socket was sent a state; lacks: vector of an own operation that is later and was settled before.

        Answers what can be acknowledged because of it.
        """
        bases = self._bases.get(socket_id, {})
        if not is_first:
            self._replaced[socket_id] = _Sent(vector, vector, now)
            for number, (base, came_at) in bases.items():
                bases[number] = (min(base, vector - 1), came_at)
        self._corrected.pop(socket_id, None)
        owed = self._owed.pop(socket_id, None)
        if owed is not None:
            owed.cells = {cell_id: known for cell_id, known in owed.cells.items() if known[0] > vector}
            if owed.state_vector <= vector:
                owed.state_vector = -1
        if lacks is not None:
            owed = owed or Owed(b"", now + LONGEST_WAIT_SECONDS)
            owed.state_vector = lacks
            owed.due_at = now + QUIET_SECONDS
        if owed is None or owed.is_settled:
            return owed.acks if owed else []
        self._owed[socket_id] = owed
        return []

    def note(self, operation: CommittedOperation, now: float) -> list[MessageKey]:
        """The next operation in order, whoever sent it; answers what can be acknowledged because of it.

        The order may begin anew further back.
        """
        settled: list[MessageKey] = []
        vector, author = operation.update_vector, operation.initiating_user
        change = _Change(vector, author, now)
        self._anywhere.note(change)
        for entry in _entries(operation):
            cell_id = entry["id"]
            if last := self._cells.get(cell_id):
                last.note(change)
            else:
                self._cells[cell_id] = _LastChanges(change, _NEVER)
            if self._recent.get(cell_id, (-1, entry))[0] < vector:
                self._recent.pop(cell_id, None)
                if len(operation.operation) <= RECENT_OPERATION_BYTES:
                    self._recent[cell_id] = (vector, entry)
            for owed in self._owed.values():
                if cell_id in owed.cells and owed.cells[cell_id][0] < vector:
                    # The event shows the cell as it is, but not to those who sent it.
                    if author != owed.owner:
                        del owed.cells[cell_id]
                    else:
                        owed.cells[cell_id] = (vector, entry)
        for socket_id in [socket_id for socket_id, owed in self._owed.items() if owed.is_settled]:
            settled += self._owed.pop(socket_id).acks
        while len(self._recent) > RECENT_CELLS:
            del self._recent[next(iter(self._recent))]
        if len(self._cells) > HISTORY_CELLS:
            self._forget_older_half()
        return settled

    def _forget_older_half(self) -> None:
        by_age = sorted(self._cells.items(), key=lambda item: item[1].newest.vector)
        self._forgotten = by_age[len(by_age) // 2][1].newest.vector
        self._cells = dict(by_age[len(by_age) // 2 + 1 :])


def _entries(operation: CommittedOperation) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = orjson.loads(operation.operation)["cells"]
    return entries


def _without_labels(entry: dict[str, Any]) -> dict[str, Any]:
    data = entry.get("data")
    if not isinstance(data, dict) or "source" not in data:
        return entry
    return {**entry, "data": {key: value for key, value in data.items() if key != "labels"}}
