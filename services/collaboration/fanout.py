"""The attached streams of a room and what each of them has carried.

Every stream gets the numbered events of the diagram in order, without gap, once. Its vector may
differ from the others' when it was attached elsewhere before.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from services.collaboration import messages
from services.collaboration.ordering import OrderedLog
from tmi.collaboration.v1.rooms_pb2 import Broadcast, Rebase, RoomFrame, State
from tmi.threat_model.v1.sequencer_pb2 import CommittedOperation, DiagramState

HISTORY_OPERATIONS = 256
"""How far behind its first stream's vector a room begins to read the log."""


@dataclass(slots=True)
class Link:
    """An attached stream. vector: of the last event it carried; None before the first snapshot."""

    gateway_id: str
    vector: int | None
    was_rebased: bool = False


class Fanout:
    """Broadcasts to streams.

    While the log has a position, no stream is behind it. Without one, the next snapshot gives it,
    and then every stream starts over from there.
    """

    def __init__(self, start_vector: int, send: Callable[[str, RoomFrame], None]) -> None:
        self.links: dict[str, Link] = {}
        self.log = OrderedLog()
        self._start_vector = start_vector
        self._send = send
        self._is_rebasing = False
        # Events delivered since the snapshot in flight was asked for: text and sending socket.
        self._recent: dict[int, tuple[bytes, str]] | None = None
        self._delivered: list[CommittedOperation] = []

    def open(self, link: str, gateway_id: str, delivered: int | None) -> None:
        """Adds a stream. delivered: the last vector its gateway has, from this replica or another."""
        self.links[link] = Link(gateway_id, delivered)
        if self._is_rebasing:
            return
        if delivered is None:
            if self.log.position is not None:
                self._rebase(link, self.log.position)
            return
        # Read again from a little before, unless that is known: who overtook whom could not be told otherwise.
        history = max(self._start_vector, delivered - HISTORY_OPERATIONS)
        if self.log.position is None or history < self.log.since:
            self.log.reset(history)
        elif delivered < self.log.position:
            self.log.reset(delivered)
        self.log.learn_head(delivered)
        for other, state in self.links.items():
            if state.vector is None:
                self._rebase(other, delivered)

    def close(self, link: str) -> None:
        """Forgets a stream."""
        self.links.pop(link, None)

    def predecessor(self, gateway_id: str) -> str | None:
        """The stream by which this gateway process is attached already."""
        return next((link for link, state in self.links.items() if state.gateway_id == gateway_id), None)

    def vector(self, link: str) -> int:
        """The diagram's vector as the clients behind a stream know it."""
        state = self.links.get(link)
        known = state.vector if state else self.log.position
        return self._start_vector if known is None else known

    def add(self, operations: Iterable[CommittedOperation]) -> bool:
        """Takes committed operations and sends what is in order; tells whether anything was."""
        self.log.add(operations)
        return self._deliver()

    def _deliver(self) -> bool:
        taken = self.log.take()
        for operation in taken:
            text = messages.operation_event(operation, self._start_vector)
            vector = operation.update_vector
            if self._recent is not None:
                self._recent[vector] = (text, operation.socket_id)
            frame = RoomFrame(
                broadcast=Broadcast(text=text, except_socket_id=operation.socket_id, update_vector=vector)
            )
            for link, state in self.links.items():
                if state.vector is not None and state.vector < vector:
                    state.vector = vector
                    self._send(link, frame)
        self._delivered += taken
        return bool(taken)

    def is_delivered(self, vector: int) -> bool:
        """True when the operation of this vector came in order before."""
        return self.log.position is not None and vector <= self.log.position

    def take_delivered(self) -> list[CommittedOperation]:
        """The operations that came in order since this was asked last."""
        delivered, self._delivered = self._delivered, []
        return delivered

    def broadcast(
        self,
        text: bytes,
        except_socket_id: str = "",
        *,
        is_volatile: bool = False,
        only_links: Collection[str] | None = None,
    ) -> None:
        """Sends an unnumbered message to every stream, or to some."""
        frame = RoomFrame(broadcast=Broadcast(text=text, except_socket_id=except_socket_id, is_volatile=is_volatile))
        for link in self.links:
            if only_links is None or link in only_links:
                self._send(link, frame)

    def skip_history(self) -> bool:
        """The log does not reach back: goes on from where a stream needs it, False if it is there already."""
        needed = min((state.vector for state in self.links.values() if state.vector is not None), default=None)
        if needed is None or self.log.position is None or needed <= self.log.position:
            return False
        self.log.reset(needed)
        return True

    def own_since(self, socket_id: str, vector: int) -> int | None:
        """The newest operation of a socket after a snapshot's vector that was delivered while it was read."""
        own = [known for known, (_, sender) in (self._recent or {}).items() if sender == socket_id and known > vector]
        return max(own, default=None)

    def lose_position(self) -> None:
        """Operations between the streams' vectors and the present cannot be had: rebase on a snapshot."""
        self.log.forget()
        self._is_rebasing = True

    def begin_snapshot(self) -> None:
        """A snapshot is asked for: it will contain everything delivered so far."""
        self._recent = {}

    def end_snapshot(self, state: DiagramState) -> bool:
        """A snapshot came. True when streams start over from it, so that every socket needs it."""
        if self.log.position is None:
            self._is_rebasing = False
            self.log.reset(state.update_vector)
            for link in self.links:
                self._rebase(link, state.update_vector)
            return True
        self.log.learn_head(state.update_vector)
        return False

    def forget_snapshot(self) -> None:
        """The snapshot has been handed to the sockets that waited; delivery goes on."""
        self._recent = None
        self._deliver()

    def state_frame(self, link: str, socket_id: str, state: DiagramState, text: bytes) -> RoomFrame | None:
        """State for one socket, or None when this snapshot is older than what its stream carried."""
        carried = self.vector(link)
        following: list[bytes] = []
        for vector in range(state.update_vector + 1, carried + 1):
            event = (self._recent or {}).get(vector)
            if event is None:
                return None
            if event[1] != socket_id:
                following.append(event[0])
        return RoomFrame(
            state=State(
                socket_id=socket_id,
                text=text,
                following=following,
                update_vector=max(state.update_vector, carried),
            )
        )

    def _rebase(self, link: str, vector: int) -> None:
        self.links[link].vector = vector
        self.links[link].was_rebased = True
        self._send(link, RoomFrame(rebase=Rebase(update_vector=vector)))
