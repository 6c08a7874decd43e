"""The operations of a room's own sockets, from their message to the acknowledgement.

They are committed in groups. One that took effect is settled when it comes in its order: only then is
it known whether its sender was overtaken and is owed a correction, with which it is acknowledged.
"""

from collections.abc import Iterable, Sequence

from services.collaboration import effects, messages
from services.collaboration.commit_queue import CommitQueue, PendingOperation
from services.collaboration.corrections import Corrections
from services.collaboration.endings import Ending
from services.collaboration.fanout import Fanout
from services.collaboration.outbox import MessageKey, Outbox
from services.collaboration.roster import LocalSocket, Roster
from tmi.collaboration.v1.relay_pb2 import RelayedOperations, RelayFrame
from tmi.collaboration.v1.rooms_pb2 import RoomFrame, Settle
from tmi.threat_model.v1.sequencer_pb2 import (
    CommitOperationsResponse,
    CommittedOperation,
    OperationRequest,
    OperationResult,
    Outcome,
    Role,
)

_TOOK_EFFECT = (Outcome.OUTCOME_ACCEPTED, Outcome.OUTCOME_REPEATED)


class Operations:
    """Commits, corrects and acknowledges. Times are Unix seconds."""

    def __init__(self, start_vector: int, roster: Roster, fanout: Fanout, outbox: Outbox) -> None:
        """start_vector: the diagram's when the session began."""
        self._start_vector = start_vector
        self._roster = roster
        self._fanout = fanout
        self._outbox = outbox
        self._commits = CommitQueue()
        self._corrections = Corrections(start_vector)
        # By vector, from their commit until they come in order.
        self._committed: dict[int, tuple[PendingOperation, CommittedOperation]] = {}
        self._endings: dict[str, Ending] = {}

    @property
    def is_idle(self) -> bool:
        """True when no outcome is outstanding."""
        return self._commits.is_empty

    def add(self, socket: LocalSocket, number: int, message: messages.OperationMessage, now: float) -> None:
        """An operation that a socket sent."""
        base_vector = self._base_vector(socket, message.base_vector)
        self._corrections.drawn(socket.socket_id, number, base_vector, now)
        request = OperationRequest(
            operation_id=message.operation_id,
            initiator=socket.principal,
            socket_id=socket.socket_id,
            operation=message.operation,
            base_vector=base_vector,
        )
        self._commits.add(PendingOperation(request, socket.link, number))
        self.commit()

    def reject(self, socket: LocalSocket, message: messages.MalformedOperation, now: float) -> None:
        """Answers a message that no diagram could accept."""
        if socket.role == Role.ROLE_READER:
            self._outbox.direct(socket, messages.authorization_denied(message.operation_id))
            return
        rejection = messages.operation_rejected(
            message.operation_id,
            self._fanout.vector(socket.link),
            message.reason,
            message.message,
            now,
            details=message.details,
        )
        self._outbox.direct(socket, rejection)

    def _base_vector(self, socket: LocalSocket, named: int | None) -> int:
        """What the client had seen when it sent an operation: what it says, unless that cannot be."""
        delivered = self._fanout.vector(socket.link)
        return named if named is not None and self._start_vector <= named <= delivered else delivered

    def taken_over(self, socket: LocalSocket, now: float) -> None:
        """A socket comes from another replica, or comes back."""
        self._corrections.taken_over(socket.socket_id, self._fanout.vector(socket.link), now)

    def forget(self, socket_id: str) -> list[MessageKey]:
        """A socket is not here any more; answers what nobody has to wait for now."""
        return self._corrections.forget(socket_id)

    # Outcomes

    def commit(self) -> None:
        """Commits what waits, unless a group is in flight."""
        if group := self._commits.next_group():
            self._outbox.emit(effects.CommitGroup(tuple(operation.request for operation in group)))

    def finish(self) -> Sequence[PendingOperation]:
        """The group in flight has its outcome."""
        group = self._commits.finish()
        self._tell_settled()
        return group

    def take_effect(
        self, group: Sequence[PendingOperation], results: Sequence[OperationResult]
    ) -> list[CommittedOperation]:
        """Tells the other replicas what was committed; answers all that took effect, now or before."""
        known: list[CommittedOperation] = []
        accepted: list[CommittedOperation] = []
        for operation, result in zip(group, results, strict=True):
            if result.outcome in _TOOK_EFFECT:
                known.append(result.committed)
                self._committed[result.committed.update_vector] = (operation, result.committed)
                if result.outcome == Outcome.OUTCOME_ACCEPTED:
                    accepted.append(result.committed)
        if accepted:
            relayed = RelayedOperations(operations=accepted)
            self._outbox.emit(effects.Publish(RelayFrame(operations=relayed)))
        return known

    def refuse(
        self, group: Sequence[PendingOperation], response: CommitOperationsResponse, now: float
    ) -> list[LocalSocket]:
        """Tells the senders of the others; answers those who may not write."""
        denied: list[LocalSocket] = []
        for operation, result in zip(group, response.results, strict=True):
            if result.outcome in _TOOK_EFFECT:
                continue
            request = operation.request
            self._corrections.refused(request.socket_id, operation.number)
            socket = self._roster.local.get(request.socket_id)
            if socket is not None and result.outcome == Outcome.OUTCOME_REJECTED:
                rejection = messages.operation_rejected(
                    request.operation_id,
                    response.update_vector,
                    result.reason,
                    result.message,
                    now,
                    affected_cells=result.affected_cells,
                    requires_resync=result.requires_resync,
                )
                self._outbox.direct(socket, rejection)
            elif socket is not None and result.outcome == Outcome.OUTCOME_DENIED:
                self._outbox.direct(socket, messages.authorization_denied(request.operation_id))
                denied.append(socket)
            self._outbox.acknowledge(socket.link if socket else operation.link, request.socket_id, operation.number)
        return denied

    # Order

    def note_delivered(self, now: float) -> None:
        """Takes note of what has come in order."""
        for committed in self._fanout.take_delivered():
            if own := self._committed.pop(committed.update_vector, None):
                self._settle(*own, now)
            self._outbox.acknowledge_all(self._corrections.note(committed, now))

    def settle_passed(self, now: float) -> None:
        """Settles what will not come in order: it came before, or a snapshot contains it."""
        for vector in sorted(vector for vector in self._committed if self._fanout.is_delivered(vector)):
            self._settle(*self._committed.pop(vector), now)

    def _settle(self, operation: PendingOperation, committed: CommittedOperation, now: float) -> None:
        """Acknowledges an operation that took effect, now or with the correction that its sender needs."""
        socket = self._roster.local.get(operation.request.socket_id)
        key = (socket.link if socket else operation.link, operation.request.socket_id, operation.number)
        if socket is None or not self._corrections.judge(key, committed, self._fanout.log.since, now):
            self._outbox.acknowledge(*key)
        else:
            self._wake()

    def _wake(self) -> None:
        if (wake_at := self._corrections.wake_at) is not None:
            self._outbox.emit(effects.WakeAt(wake_at))

    def send_corrections(self, now: float) -> bool:
        """Sends what is due; True when a socket needs a state for it."""
        needs_state = False
        for socket_id, owed in self._corrections.take_due(now):
            socket = self._roster.local[socket_id]
            if owed.state_vector >= 0 or socket.needs_state:
                socket.held_acks += owed.acks
                needs_state = socket.needs_state = True
                continue
            text = messages.correction(owed.vector, self._start_vector, owed.author, owed.operation())
            self._outbox.direct(socket, text)
            self._corrections.sent(socket_id, owed, now)
            self._outbox.acknowledge_all(owed.acks)
        return needs_state

    def note_state_sent(self, socket: LocalSocket, vector: int, now: float) -> None:
        """A socket was sent a state of this vector."""
        lacks = self._fanout.own_since(socket.socket_id, vector)
        keys, socket.held_acks = socket.held_acks, []
        keys += self._corrections.state_sent(socket.socket_id, vector, lacks=lacks, is_first=socket.is_new, now=now)
        self._outbox.acknowledge_all(keys)
        self._wake()

    # The end of the session

    def settle_all(self, ending_id: str, links: Iterable[str]) -> None:
        """The session is about to end: gateways forward what they have received, and it gets its outcome."""
        waits_for = set(links)
        for link in waits_for:
            self._outbox.send(link, RoomFrame(settle=Settle(ending_id=ending_id)))
        self._endings[ending_id] = Ending(waits_for)
        self._tell_settled()

    def settled(self, link: str, ending_id: str) -> None:
        """A gateway has forwarded everything."""
        if ending := self._endings.get(ending_id):
            ending.waits_for.discard(link)
            ending.operations = self._commits.added
            self._tell_settled()

    def link_lost(self, link: str) -> None:
        """A stream has ended, and is not waited for."""
        for ending_id in list(self._endings):
            self.settled(link, ending_id)

    def _tell_settled(self) -> None:
        for ending_id, ending in list(self._endings.items()):
            if not ending.waits_for and self._commits.finished >= ending.operations:
                del self._endings[ending_id]
                self._outbox.emit(effects.TellSettled(ending_id))
