"""The room of one collaboration session on one replica, as a state machine without I/O.

Inputs are method calls that never block; what they cause is collected as effects (`take_effects`).
Other replicas may have rooms of the same session: the operation log of the sequencer, the relay
and the shared presence keep them together. Times are Unix seconds.
"""

from collections.abc import Iterable, Mapping, Sequence

from services.collaboration import effects, messages
from services.collaboration.announcements import Announcements
from services.collaboration.fanout import Fanout
from services.collaboration.operations import Operations
from services.collaboration.outbox import Outbox
from services.collaboration.participants import ConnectedSocket, Participant
from services.collaboration.presenting import Presenting
from services.collaboration.roster import LocalSocket, Roster
from services.shared.rpc import MESSAGE_LIMIT_BYTES
from tmi.collaboration.v1.relay_pb2 import RelayedDirect, RelayedVolatile, RelayFrame, SessionEnded
from tmi.collaboration.v1.rooms_pb2 import Close, Probe, RoomFrame
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import (
    CommitOperationsResponse,
    CommittedOperation,
    DiagramSession,
    DiagramState,
    ReadOperationsResponse,
    Role,
)

CLOSE_NORMAL = 1000
CLOSE_ACCESS_REVOKED = 4403

GAP_PATIENCE_SECONDS = 0.02
"""How long an operation may be late on the relay before the log is read."""
FIRST_HOST_SECONDS = 60.0
"""How long a room waits for a host it has never seen."""
INACTIVITY_NOTICE_SECONDS = 60.0
INACTIVITY_NOTICE = "The collaboration session ends in a minute because nobody does anything. Any change keeps it open."
HOST_DISCONNECTED = "Session terminated: host disconnected"
DIAGRAM_TOO_LARGE = "The collaboration session has ended because the diagram is too large to be sent."
STATE_LIMIT_BYTES = MESSAGE_LIMIT_BYTES - 16 * 1024 * 1024
"""The rest of a message is for the events behind a state."""
ENDED_ELSEWHERE = "The collaboration session has ended."


class Room:
    """One session on this replica. Streams (`link`) belong to gateways and carry their sockets."""

    def __init__(
        self, session: DiagramSession, now: float, *, host_grace_seconds: float, inactivity_seconds: float
    ) -> None:
        """inactivity_seconds: after how long without a message of a person the session will be ended."""
        self.session = session
        self.last_activity_at = now
        self.is_finished = False
        self._roster = Roster(session.host, now)
        self._outbox = Outbox()
        self._fanout = Fanout(session.start_vector, self._outbox.send)
        self._outbox.links = self._fanout.links
        self._operations = Operations(session.start_vector, self._roster, self._fanout, self._outbox)
        self._end_reason = ENDED_ELSEWHERE
        self._presenting = Presenting(session.host, self._roster, self._fanout, self._outbox)
        self._announcements = Announcements(session.host, self._roster, self._fanout, self._presenting)
        self._host_grace_seconds = host_grace_seconds
        self._inactivity_seconds = inactivity_seconds
        # The last activity after which everybody was warned.
        self._warned_since: float | None = None
        self._is_ending = False
        self._behind_since: float | None = None
        self._is_reading_log = False
        self._is_fetching_state = False
        self._unchecked: dict[str, Principal] = {}
        self._is_checking_access = False

    def take_effects(self) -> list[effects.Effect]:
        """What is to be done, in order; the list is handed over once."""
        return self._outbox.take()

    @property
    def sockets(self) -> dict[str, LocalSocket]:
        """The sockets on this replica, by id."""
        return self._roster.local

    # Streams of gateways

    def attach(self, link: str, gateway_id: str, delivered_vector: int | None, now: float) -> None:
        """A gateway opened a stream; an earlier one of the same process is replaced."""
        if predecessor := self._fanout.predecessor(gateway_id):
            self._outbox.emit(effects.EndStream(predecessor))
            self.detach(predecessor, now)
        self._fanout.open(link, gateway_id, delivered_vector)
        if delivered_vector is not None:
            self._announcements.taken_over(link)
            self._read_log()

    def detach(self, link: str, now: float) -> None:
        """A stream ended without goodbye. Its sockets count as present until their presence expires."""
        self._fanout.close(link)
        self._announcements.forget(link)
        for socket_id in self._roster.lose(link, now):
            self._operations.forget(socket_id)
        self._operations.link_lost(link)

    @property
    def vector(self) -> int:
        """The diagram's vector as far as this room knows."""
        position = self._fanout.log.position
        return self.session.start_vector if position is None else position

    def join(self, link: str, socket_id: str, principal: Principal, now: float, *, is_rejoin: bool) -> None:
        """A socket connected, or (rejoin) was connected already and has its state."""
        if link not in self._fanout.links:
            return
        socket = self._roster.add(link, socket_id, principal, now, is_new=not is_rejoin)
        if is_rejoin:
            self._operations.taken_over(socket, now)
        else:
            self.last_activity_at = now
            socket.is_too_late = self._is_fetching_state
        if self._fanout.links[link].was_rebased and is_rejoin:
            socket.needs_state = socket.needs_participants = True
        if socket.needs_state:
            self._fetch_state()
        self._check_access([(socket_id, principal)])

    def leave(self, link: str, socket_id: str, number: int, now: float) -> None:
        """A gateway says that a socket is gone for good."""
        self._remove(socket_id, now)
        self._outbox.acknowledge(link, socket_id, number)

    def _remove(self, socket_id: str, now: float) -> None:
        if socket := self._roster.remove(socket_id, now):
            self._outbox.acknowledge_all((*socket.held_acks, *self._operations.forget(socket_id)))
            self.last_activity_at = now
            self._outbox.emit(effects.RemovePresence(socket))
            self._announcements.announce()

    def resync(self, socket_id: str) -> None:
        """A socket fell behind and dropped its queue."""
        if socket := self.sockets.get(socket_id):
            socket.needs_state = socket.needs_participants = True
            self._fetch_state()

    def probe(self, user_id: str) -> None:
        """The sockets of a user fill their places: gateways drop those that are dead."""
        for socket in self.sockets.values():
            if socket.principal.user_id == user_id:
                self._outbox.send(socket.link, RoomFrame(probe=Probe(socket_id=socket.socket_id)))

    # Messages of clients

    def message(self, link: str, socket_id: str, number: int, text: bytes, now: float, *, refusal: str = "") -> None:
        """A client's message. It is acknowledged when its outcome is durable. refusal: why the gateway refuses it."""
        socket = self.sockets.get(socket_id)
        if socket is None:
            self._outbox.acknowledge(link, socket_id, number)
            return
        socket.last_activity_at = self.last_activity_at = now
        message = messages.refused(text, refusal) if refusal else messages.decode(text)
        match message:
            case messages.OperationMessage():
                self._operations.add(socket, number, message, now)
                return
            case messages.MalformedOperation():
                self._operations.reject(socket, message, now)
            case messages.SyncRequest():
                self._synchronise(socket, message)
            case messages.VolatileMessage():
                self._presenting.present(socket, message, now)
            case messages.Request():
                if self._presenting.request(socket, message, now):
                    self._announcements.announce(force=True)
            case messages.Refused():
                self._outbox.direct(socket, messages.error(message.code, message.message, now))
            case None:
                pass
        self._outbox.acknowledge(link, socket_id, number)

    def _synchronise(self, socket: LocalSocket, message: messages.SyncRequest) -> None:
        current = self._fanout.vector(socket.link)
        if message.status_only or message.update_vector == current:
            self._outbox.direct(socket, messages.sync_status_response(current))
        else:
            socket.needs_state = True
            self._fetch_state()

    # Operations

    def committed(self, response: CommitOperationsResponse, now: float) -> None:
        """The outcome of the group in flight."""
        group = self._operations.finish()
        if self.is_finished:
            return
        if response.session_ended:
            self.end(self._end_reason, now)
            return
        self._add(self._operations.take_effect(group, response.results), now)
        self._operations.settle_passed(now)
        denied = self._operations.refuse(group, response, now)
        self._check_access((socket.socket_id, socket.principal) for socket in denied)
        self._operations.commit()

    def relayed(self, operations: Iterable[CommittedOperation], now: float) -> None:
        """Operations that another replica committed."""
        self._add(operations, now)

    def _add(self, operations: Iterable[CommittedOperation], now: float) -> None:
        if self._fanout.add(operations):
            self.last_activity_at = now
        self._operations.note_delivered(now)
        self._note_gap(now)

    def _note_gap(self, now: float) -> None:
        if not self._fanout.log.is_behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
            self._outbox.emit(effects.WakeAt(now + GAP_PATIENCE_SECONDS))
        elif now >= self._behind_since + GAP_PATIENCE_SECONDS:
            self._read_log()

    def poll(self) -> None:
        """Looks for operations and an end of the session that the relay may have failed to tell."""
        self._read_log()

    def _read_log(self) -> None:
        position = self._fanout.log.position
        if not self._is_reading_log and not self.is_finished and position is not None:
            self._is_reading_log = True
            self._outbox.emit(effects.ReadLog(position))

    def log_read(self, after_vector: int, response: ReadOperationsResponse, now: float) -> None:
        """The answer to ReadLog."""
        self._is_reading_log = False
        if self._ended_elsewhere(response.session_id, now):
            return
        if not response.complete:
            if self._fanout.skip_history():
                self._operations.settle_passed(now)
                self._read_log()
                return
            self._fanout.lose_position()
            self._fetch_state()
            return
        log = self._fanout.log
        self._add(response.operations, now)
        log.confirm_head(response.update_vector)
        self._behind_since = None
        if log.is_behind or (log.position is not None and log.position < after_vector):
            self._read_log()

    def _ended_elsewhere(self, session_id: str, now: float) -> bool:
        if session_id != self.session.session_id:
            self.end(self._end_reason, now)
        return self.is_finished

    # Snapshots

    def _fetch_state(self) -> None:
        if not self._is_fetching_state and not self.is_finished:
            self._is_fetching_state = True
            self._fanout.begin_snapshot()
            self._outbox.emit(effects.FetchState())

    def state_fetched(self, state: DiagramState, now: float) -> None:
        """The answer to FetchState: goes to every socket that waits for it."""
        self._is_fetching_state = False
        if self._ended_elsewhere(state.session_id, now):
            return
        if self._fanout.end_snapshot(state):
            self._operations.settle_passed(now)
            for socket in self.sockets.values():
                socket.needs_state = socket.needs_participants = True
        text = messages.diagram_state(state)
        if len(text) > STATE_LIMIT_BYTES:
            self.publish_end(DIAGRAM_TOO_LARGE, now)
            return
        for socket in list(self.sockets.values()):
            if socket.is_too_late:
                socket.is_too_late = False
            elif socket.needs_state and (frame := self._fanout.state_frame(socket.link, socket.socket_id, state, text)):
                socket.needs_state = False
                self._outbox.send(socket.link, frame)
                self._operations.note_state_sent(socket, state.update_vector, now)
                needs_participants, socket.needs_participants = socket.needs_participants, False
                if socket.is_new:
                    self._introduce(socket)
                elif needs_participants:
                    self._outbox.direct(socket, self._announcements.text())
        self._fanout.forget_snapshot()
        self._operations.note_delivered(now)
        self._note_gap(now)
        if any(socket.needs_state for socket in self.sockets.values()):
            self._fetch_state()

    # Access and participants

    def recheck_access(self) -> None:
        """Asks again for the role of every socket."""
        self._check_access([(socket.socket_id, socket.principal) for socket in self.sockets.values()])

    def _check_access(self, principals: Iterable[tuple[str, Principal]]) -> None:
        self._unchecked.update(principals)
        if not self._is_checking_access and self._unchecked and not self.is_finished:
            self._is_checking_access = True
            self._outbox.emit(effects.CheckAccess(tuple(self._unchecked.items())))
            self._unchecked = {}

    def access_checked(self, roles: Mapping[str, "Role.ValueType"], now: float) -> None:
        """The answer to CheckAccess, by socket id."""
        self._is_checking_access = False
        for socket_id, role in roles.items():
            socket = self.sockets.get(socket_id)
            if socket is None:
                continue
            if role == Role.ROLE_UNSPECIFIED:
                self._outbox.close(socket, CLOSE_ACCESS_REVOKED, "access revoked")
                self._remove(socket_id, now)
                continue
            changed, socket.role = socket.role != role, role
            if socket.is_new:
                self._introduce(socket)
            elif changed:
                self._outbox.emit(effects.StorePresence(socket))
        self._announcements.announce()
        self._check_access(())

    def _introduce(self, socket: LocalSocket) -> None:
        """Tells everybody of a newcomer, once its state was sent and its role is known."""
        if socket.is_new and not socket.needs_state and socket.role != Role.ROLE_UNSPECIFIED:
            socket.is_new = False
            self._outbox.emit(effects.StorePresence(socket))
            self._announcements.announce(force=True)

    def presence(self, sockets: Sequence[ConnectedSocket], now: float) -> None:
        """The shared presence, as read: sockets that other replicas, or this one before, wrote."""
        self.last_activity_at = max([self.last_activity_at, *(socket.last_activity_at for socket in sockets)])
        if self._roster.read_presence(sockets, now):
            self.last_activity_at = now
        self._announcements.announce()

    def presence_unavailable(self) -> None:
        """The shared presence cannot be read."""
        self._roster.presence_unavailable()
        self._announcements.announce()

    def participants(self) -> list[Participant]:
        """Everybody in the session, on any replica."""
        return self._roster.participants()

    # Time, host and end

    @property
    def is_host_absent(self) -> bool:
        """True when no socket of the host is known on any replica."""
        return self._roster.host_absent_since is not None

    def tick(self, now: float) -> None:
        """Time has passed: at least once a second, and at every WakeAt."""
        if self.is_finished:
            return
        self._presenting.flush(now)
        if self._operations.send_corrections(now):
            self._fetch_state()
        self._warn_of_inactivity(now)
        self._note_gap(now)
        self._is_ending = self._is_ending and self.is_host_absent
        if (absent_since := self._roster.host_absent_since) is not None:
            patience = self._host_grace_seconds if self._roster.host_was_seen else FIRST_HOST_SECONDS
            if now - absent_since >= patience and not self._is_ending:
                self._is_ending = True
                self._outbox.emit(effects.EndSession(HOST_DISCONNECTED))
        elif not self._fanout.links and self._operations.is_idle:
            self._finish()

    def _warn_of_inactivity(self, now: float) -> None:
        notice = min(INACTIVITY_NOTICE_SECONDS, self._inactivity_seconds / 2)
        is_due = now - self.last_activity_at >= self._inactivity_seconds - notice
        if is_due and self._warned_since != self.last_activity_at:
            self._warned_since = self.last_activity_at
            # validation_error is an error that web clients merely show.
            self._fanout.broadcast(messages.error("validation_error", INACTIVITY_NOTICE, now))

    def end(self, reason: str, now: float) -> None:
        """The session has ended: every socket is told why and closed."""
        if self.is_finished:
            return
        text = messages.error("session_terminated", reason, now)
        for link in list(self._fanout.links):
            close = Close(code=CLOSE_NORMAL, reason=reason, last_text=text)
            self._outbox.send(link, RoomFrame(close=close))
            self._outbox.emit(effects.EndStream(link))
        self._finish()

    def publish_end(self, reason: str, now: float) -> None:
        """As `end`, and the other replicas are told."""
        if not self.is_finished:
            self._outbox.emit(effects.Publish(RelayFrame(session_ended=SessionEnded(reason=reason))))
            self.end(reason, now)

    def settle(self, ending_id: str, reason: str) -> None:
        """The session is about to end: gets everything that gateways have received, and its outcome."""
        self._end_reason = reason
        self._operations.settle_all(ending_id, self._fanout.links)

    def settled(self, link: str, ending_id: str) -> None:
        """A gateway has forwarded everything."""
        self._operations.settled(link, ending_id)

    def volatile_relayed(self, message: RelayedVolatile) -> None:
        """A presenter's message from another replica."""
        self._fanout.broadcast(message.text, message.except_socket_id, is_volatile=True)

    def _finish(self) -> None:
        self.is_finished = True
        for socket in self.sockets.values():
            self._outbox.emit(effects.RemovePresence(socket))
        self.sockets.clear()
        self._outbox.emit(effects.Finished())

    def relayed_direct(self, message: RelayedDirect) -> None:
        """A message from another replica for one socket, which may be here."""
        if socket := self.sockets.get(message.socket_id):
            self._outbox.direct(socket, message.text)
