"""The room of one collaboration session on one replica, as a state machine without I/O.

Inputs are method calls that never block; what they cause is collected as effects (`take_effects`).
Other replicas may have rooms of the same session: the operation log of the sequencer, the relay
and the shared presence keep them together. Times are Unix seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from services.collaboration import effects, messages
from services.collaboration.coalescing import Coalescer
from services.collaboration.commit_queue import CommitQueue, PendingOperation
from services.collaboration.corrections import Ack as DueAck
from services.collaboration.corrections import Corrections
from services.collaboration.endings import Ending
from services.collaboration.fanout import Fanout
from services.collaboration.participants import ConnectedSocket, Participant, same_user
from services.collaboration.roster import LocalSocket, Roster
from services.shared.rpc import MESSAGE_LIMIT_BYTES
from tmi.collaboration.v1.relay_pb2 import RelayedDirect, RelayedOperations, RelayedVolatile, RelayFrame, SessionEnded
from tmi.collaboration.v1.rooms_pb2 import Ack, Close, Direct, Probe, RoomFrame, Settle
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import (
    CommitOperationsResponse,
    CommittedOperation,
    DiagramSession,
    DiagramState,
    OperationRequest,
    OperationResult,
    Outcome,
    ReadOperationsResponse,
    Role,
)

CLOSE_NORMAL = 1000
CLOSE_ACCESS_REVOKED = 4403

VOLATILE_INTERVAL_SECONDS = 1 / 30
GAP_PATIENCE_SECONDS = 0.02
"""How long an operation may be late on the relay before the log is read."""
FIRST_HOST_SECONDS = 60.0
"""How long a room waits for a host it has never seen."""
INACTIVITY_NOTICE_SECONDS = 60.0
INACTIVITY_NOTICE = "The collaboration session ends in a minute because nobody does anything. Any change keeps it open."
NO_HISTORY = {
    "undo": "Undo is not available while people edit together.",
    "redo": "Redo is not available while people edit together.",
}
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
        self.presenter: Principal | None = session.host
        self._roster = Roster(session.host, now)
        self._effects: list[effects.Effect] = []
        self._fanout = Fanout(session.start_vector, lambda link, frame: self._emit(effects.SendFrame(link, frame)))
        self._commits = CommitQueue()
        self._corrections = Corrections(session.start_vector)
        # Operations of sockets here, by vector, from their commit until they come in order.
        self._own: dict[int, tuple[PendingOperation, CommittedOperation]] = {}
        self._endings: dict[str, Ending] = {}
        self._end_reason = ENDED_ELSEWHERE
        self._volatile: Coalescer[tuple[str, bytes]] = Coalescer(VOLATILE_INTERVAL_SECONDS)
        self._announced: list[tuple[str, str, bool]] = []
        self._must_announce = False
        # Streams taken over: their sockets may have an older list of participants.
        self._uninformed: set[str] = set()
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
        taken, self._effects = self._effects, []
        return taken

    def _emit(self, effect: effects.Effect) -> None:
        self._effects.append(effect)

    @property
    def sockets(self) -> dict[str, LocalSocket]:
        """The sockets on this replica, by id."""
        return self._roster.local

    # Streams of gateways

    def attach(self, link: str, gateway_id: str, delivered_vector: int | None, now: float) -> None:
        """A gateway opened a stream; an earlier one of the same process is replaced."""
        if predecessor := self._fanout.predecessor(gateway_id):
            self._emit(effects.EndStream(predecessor))
            self.detach(predecessor, now)
        self._fanout.open(link, gateway_id, delivered_vector)
        if delivered_vector is not None:
            self._uninformed.add(link)
            self._read_log()

    def detach(self, link: str, now: float) -> None:
        """A stream ended without goodbye. Its sockets count as present until their presence expires."""
        self._fanout.close(link)
        self._uninformed.discard(link)
        for socket_id in self._roster.lose(link, now):
            self._corrections.forget(socket_id)
        for ending_id in list(self._endings):
            self.settled(link, ending_id)

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
            self._corrections.taken_over(socket_id, self._fanout.vector(link), now)
        else:
            self.last_activity_at = now
        if self._fanout.links[link].was_rebased and is_rejoin:
            socket.needs_state = socket.needs_participants = True
        if socket.needs_state:
            self._fetch_state()
        self._check_access([(socket_id, principal)])

    def leave(self, link: str, socket_id: str, number: int, now: float) -> None:
        """A gateway says that a socket is gone for good."""
        self._remove(socket_id, now)
        self._acknowledge(link, socket_id, number)

    def _remove(self, socket_id: str, now: float) -> None:
        if socket := self._roster.remove(socket_id, now):
            self._acknowledge_all((*socket.held_acks, *self._corrections.forget(socket_id)))
            self.last_activity_at = now
            self._emit(effects.RemovePresence(socket))
            self._announce()

    def resync(self, socket_id: str) -> None:
        """A socket fell behind and dropped its queue."""
        if socket := self.sockets.get(socket_id):
            socket.needs_state = socket.needs_participants = True
            self._fetch_state()

    def probe(self, user_id: str) -> None:
        """The sockets of a user fill their places: gateways drop those that are dead."""
        for socket in self.sockets.values():
            if socket.principal.user_id == user_id:
                self._emit(effects.SendFrame(socket.link, RoomFrame(probe=Probe(socket_id=socket.socket_id))))

    # Messages of clients

    def message(self, link: str, socket_id: str, number: int, text: bytes, now: float, *, refusal: str = "") -> None:
        """A client's message. It is acknowledged when its outcome is durable. refusal: why the gateway refuses it."""
        socket = self.sockets.get(socket_id)
        if socket is None:
            self._acknowledge(link, socket_id, number)
            return
        socket.last_activity_at = self.last_activity_at = now
        message = messages.refused(text, refusal) if refusal else messages.decode(text)
        match message:
            case messages.OperationMessage():
                base_vector = self._base_vector(socket, message.base_vector)
                self._corrections.drawn(socket_id, number, base_vector)
                request = OperationRequest(
                    operation_id=message.operation_id,
                    initiator=socket.principal,
                    socket_id=socket_id,
                    operation=message.operation,
                    base_vector=base_vector,
                )
                self._commits.add(PendingOperation(request, link, number))
                self._commit()
                return
            case messages.MalformedOperation():
                self._reject_malformed(socket, message, now)
            case messages.SyncRequest():
                self._synchronise(socket, message)
            case messages.VolatileMessage():
                self._present(socket, message, now)
            case messages.Request():
                self._request(socket, message, now)
            case messages.Refused():
                self._direct(socket, messages.error(message.code, message.message, now))
            case None:
                pass
        self._acknowledge(link, socket_id, number)

    def _base_vector(self, socket: LocalSocket, named: int | None) -> int:
        """What the client had seen when it sent an operation: what it says, unless that cannot be."""
        delivered = self._fanout.vector(socket.link)
        return named if named is not None and self.session.start_vector <= named <= delivered else delivered

    def _reject_malformed(self, socket: LocalSocket, message: messages.MalformedOperation, now: float) -> None:
        if socket.role == Role.ROLE_READER:
            self._direct(socket, messages.authorization_denied(message.operation_id))
            return
        rejection = messages.operation_rejected(
            message.operation_id,
            self._fanout.vector(socket.link),
            message.reason,
            message.message,
            now,
            details=message.details,
        )
        self._direct(socket, rejection)

    def _synchronise(self, socket: LocalSocket, message: messages.SyncRequest) -> None:
        current = self._fanout.vector(socket.link)
        if message.status_only or message.update_vector == current:
            self._direct(socket, messages.sync_status_response(current))
        else:
            socket.needs_state = True
            self._fetch_state()

    def _present(self, socket: LocalSocket, message: messages.VolatileMessage, now: float) -> None:
        if self.presenter is not None and same_user(socket.principal, self.presenter):
            self._volatile.offer((message.kind, socket.socket_id), (socket.socket_id, message.text))
            self._flush_volatile(now)

    def _request(self, socket: LocalSocket, message: messages.Request, now: float) -> None:
        """The presenter is the host and stays it; nothing is kept that could be undone."""
        is_host = same_user(socket.principal, self.session.host)
        match message.kind:
            case "undo_request" | "redo_request":
                direction: Literal["undo", "redo"] = "undo" if message.kind == "undo_request" else "redo"
                self._direct(socket, messages.nothing_in_history(direction))
                self._direct(socket, messages.error("validation_error", NO_HISTORY[direction], now))
            case "presenter_request" if is_host:
                self._announce(force=True)
            case "presenter_request":
                host = self._roster.sockets_of(self.session.host.provider, self.session.host.provider_id)
                if host:
                    self._send(host[0], messages.presenter_request_event(socket.principal))
                else:
                    self._direct(socket, messages.presenter_denied_event(socket.principal))
            case "presenter_denied_request" if is_host and message.user:
                for denied in self._roster.sockets_of(*message.user):
                    self._send(denied, messages.presenter_denied_event(denied.principal))
            case "change_presenter_request" if is_host:
                # invalid_participant is an error that the web client merely shows.
                self._direct(socket, messages.error("invalid_participant", "The presenter cannot be changed.", now))
            case "remove_participant_request" if is_host:
                self._direct(socket, messages.error("invalid_participant", "Participants cannot be removed.", now))

    def _flush_volatile(self, now: float) -> None:
        for socket_id, text in self._volatile.take(now):
            self._fanout.broadcast(text, socket_id, is_volatile=True)
            relayed = RelayedVolatile(text=text, except_socket_id=socket_id)
            self._emit(effects.Publish(RelayFrame(volatile_message=relayed)))
        if (wake_at := self._volatile.wake_at) is not None:
            self._emit(effects.WakeAt(wake_at))

    # Operations

    def _commit(self) -> None:
        if group := self._commits.next_group():
            self._emit(effects.CommitGroup(tuple(operation.request for operation in group)))

    def committed(self, response: CommitOperationsResponse, now: float) -> None:
        """The outcome of the group in flight."""
        group = self._commits.finish()
        self._tell_settled()
        if self.is_finished:
            return
        if response.session_ended:
            self.end(self._end_reason, now)
            return
        accepted: list[CommittedOperation] = []
        known: list[CommittedOperation] = []
        for operation, result in zip(group, response.results, strict=True):
            if result.outcome in (Outcome.OUTCOME_ACCEPTED, Outcome.OUTCOME_REPEATED):
                known.append(result.committed)
                self._own[result.committed.update_vector] = (operation, result.committed)
                if result.outcome == Outcome.OUTCOME_ACCEPTED:
                    accepted.append(result.committed)
        if accepted:
            relayed = RelayedOperations(operations=accepted)
            self._emit(effects.Publish(RelayFrame(operations=relayed)))
        self._add(known, now)
        self._settle_passed(now)
        for operation, result in zip(group, response.results, strict=True):
            if result.outcome not in (Outcome.OUTCOME_ACCEPTED, Outcome.OUTCOME_REPEATED):
                self._tell_refusal(operation, result, response.update_vector, now)
        self._commit()

    def _settle(self, operation: PendingOperation, committed: CommittedOperation, now: float) -> None:
        """Acknowledges an operation that took effect, now or with the correction that its sender needs."""
        socket = self.sockets.get(operation.request.socket_id)
        ack = (socket.link if socket else operation.link, operation.request.socket_id, operation.number)
        if socket is None or not self._corrections.judge(ack, committed, self._fanout.log.since, now):
            self._acknowledge(*ack)
        else:
            self._wake_for_corrections()

    def _wake_for_corrections(self) -> None:
        if (wake_at := self._corrections.wake_at) is not None:
            self._emit(effects.WakeAt(wake_at))

    def _note_delivered(self, now: float) -> None:
        for committed in self._fanout.take_delivered():
            if own := self._own.pop(committed.update_vector, None):
                self._settle(*own, now)
            self._acknowledge_all(self._corrections.note(committed))

    def _settle_passed(self, now: float) -> None:
        """Settles own operations that will not come in order: they came before, or a snapshot contains them."""
        for vector in sorted(vector for vector in self._own if self._fanout.is_delivered(vector)):
            self._settle(*self._own.pop(vector), now)

    def _acknowledge_all(self, acks: Iterable[DueAck]) -> None:
        for ack in acks:
            self._acknowledge(*ack)

    def _send_corrections(self, now: float) -> None:
        for socket_id, owed in self._corrections.take_due(now):
            socket = self.sockets[socket_id]
            if owed.state_vector >= 0 or socket.needs_state:
                socket.held_acks += owed.acks
                socket.needs_state = True
                self._fetch_state()
            else:
                self._direct(
                    socket,
                    messages.correction(owed.vector, self.session.start_vector, owed.author, owed.operation()),
                )
                self._corrections.sent(socket_id, owed, now)
                self._acknowledge_all(owed.acks)

    def _tell_refusal(self, operation: PendingOperation, result: OperationResult, vector: int, now: float) -> None:
        self._corrections.refused(operation.request.socket_id, operation.number)
        request = operation.request
        socket = self.sockets.get(request.socket_id)
        if socket is not None and result.outcome == Outcome.OUTCOME_REJECTED:
            rejection = messages.operation_rejected(
                request.operation_id,
                vector,
                result.reason,
                result.message,
                now,
                affected_cells=result.affected_cells,
                requires_resync=result.requires_resync,
            )
            self._direct(socket, rejection)
        elif socket is not None and result.outcome == Outcome.OUTCOME_DENIED:
            self._direct(socket, messages.authorization_denied(request.operation_id))
            self._check_access([(socket.socket_id, socket.principal)])
        self._acknowledge(socket.link if socket else operation.link, request.socket_id, operation.number)

    def relayed(self, operations: Iterable[CommittedOperation], now: float) -> None:
        """Operations that another replica committed."""
        self._add(operations, now)

    def _add(self, operations: Iterable[CommittedOperation], now: float) -> None:
        if self._fanout.add(operations):
            self.last_activity_at = now
        self._note_delivered(now)
        self._note_gap(now)

    def _note_gap(self, now: float) -> None:
        if not self._fanout.log.is_behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
            self._emit(effects.WakeAt(now + GAP_PATIENCE_SECONDS))
        elif now >= self._behind_since + GAP_PATIENCE_SECONDS:
            self._read_log()

    def poll(self) -> None:
        """Looks for operations and an end of the session that the relay may have failed to tell."""
        self._read_log()

    def _read_log(self) -> None:
        position = self._fanout.log.position
        if not self._is_reading_log and not self.is_finished and position is not None:
            self._is_reading_log = True
            self._emit(effects.ReadLog(position))

    def log_read(self, after_vector: int, response: ReadOperationsResponse, now: float) -> None:
        """The answer to ReadLog."""
        self._is_reading_log = False
        if self._ended_elsewhere(response.session_id, now):
            return
        if not response.complete:
            if self._fanout.skip_history():
                self._settle_passed(now)
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
            self._emit(effects.FetchState())

    def state_fetched(self, state: DiagramState, now: float) -> None:
        """The answer to FetchState: goes to every socket that waits for it."""
        self._is_fetching_state = False
        if self._ended_elsewhere(state.session_id, now):
            return
        if self._fanout.end_snapshot(state):
            self._settle_passed(now)
            for socket in self.sockets.values():
                socket.needs_state = socket.needs_participants = True
        text = messages.diagram_state(state)
        if len(text) > STATE_LIMIT_BYTES:
            self.publish_end(DIAGRAM_TOO_LARGE, now)
            return
        for socket in list(self.sockets.values()):
            if socket.needs_state and (frame := self._fanout.state_frame(socket.link, socket.socket_id, state, text)):
                socket.needs_state = False
                self._emit(effects.SendFrame(socket.link, frame))
                self._note_state_sent(socket, state.update_vector, now)
                needs_participants, socket.needs_participants = socket.needs_participants, False
                if socket.is_new:
                    self._introduce(socket)
                elif needs_participants:
                    self._direct(socket, self._participants_update(self.participants()))
        self._fanout.forget_snapshot()
        self._note_delivered(now)
        self._note_gap(now)
        if any(socket.needs_state for socket in self.sockets.values()):
            self._fetch_state()

    def _note_state_sent(self, socket: LocalSocket, vector: int, now: float) -> None:
        lacks = self._fanout.own_since(socket.socket_id, vector)
        acks, socket.held_acks = socket.held_acks, []
        acks += self._corrections.state_sent(socket.socket_id, vector, lacks=lacks, is_first=socket.is_new, now=now)
        self._acknowledge_all(acks)
        self._wake_for_corrections()

    # Access and participants

    def recheck_access(self) -> None:
        """Asks again for the role of every socket."""
        self._check_access([(socket.socket_id, socket.principal) for socket in self.sockets.values()])

    def _check_access(self, principals: Iterable[tuple[str, Principal]]) -> None:
        self._unchecked.update(principals)
        if not self._is_checking_access and self._unchecked and not self.is_finished:
            self._is_checking_access = True
            self._emit(effects.CheckAccess(tuple(self._unchecked.items())))
            self._unchecked = {}

    def access_checked(self, roles: Mapping[str, "Role.ValueType"], now: float) -> None:
        """The answer to CheckAccess, by socket id."""
        self._is_checking_access = False
        for socket_id, role in roles.items():
            socket = self.sockets.get(socket_id)
            if socket is None:
                continue
            if role == Role.ROLE_UNSPECIFIED:
                self._close(socket, CLOSE_ACCESS_REVOKED, "access revoked")
                self._remove(socket_id, now)
                continue
            changed, socket.role = socket.role != role, role
            if socket.is_new:
                self._introduce(socket)
            elif changed:
                self._emit(effects.StorePresence(socket))
        self._announce()
        self._check_access(())

    def _introduce(self, socket: LocalSocket) -> None:
        """Tells everybody of a newcomer, once its state was sent and its role is known."""
        if socket.is_new and not socket.needs_state and socket.role != Role.ROLE_UNSPECIFIED:
            socket.is_new = False
            self._emit(effects.StorePresence(socket))
            self._announce(force=True)

    def presence(self, sockets: Sequence[ConnectedSocket], now: float) -> None:
        """The shared presence, as read: sockets that other replicas, or this one before, wrote."""
        self.last_activity_at = max([self.last_activity_at, *(socket.last_activity_at for socket in sockets)])
        if self._roster.read_presence(sockets, now):
            self.last_activity_at = now
        self._announce()

    def presence_unavailable(self) -> None:
        """The shared presence cannot be read."""
        self._roster.presence_unavailable()
        self._announce()

    def participants(self) -> list[Participant]:
        """Everybody in the session, on any replica."""
        return self._roster.participants()

    def _announce(self, *, force: bool = False) -> None:
        """Sends participants_update when the list has changed, or always with `force`."""
        self._must_announce |= force
        if not self._roster.is_complete:
            return
        present = self.participants()
        summary = [
            (participant.principal.provider, participant.principal.provider_id, participant.role >= Role.ROLE_WRITER)
            for participant in present
        ]
        if self._must_announce or summary != self._announced:
            self._must_announce = False
            self._announced = summary
            self._uninformed.clear()
            self._fanout.broadcast(self._participants_update(present))
        elif self._uninformed:
            self._fanout.broadcast(self._participants_update(present), only_links=self._uninformed)
            self._uninformed.clear()

    def _participants_update(self, present: Iterable[Participant]) -> bytes:
        return messages.participants_update(present, self.session.host, self.presenter)

    # Time, host and end

    @property
    def is_host_absent(self) -> bool:
        """True when no socket of the host is known on any replica."""
        return self._roster.host_absent_since is not None

    def tick(self, now: float) -> None:
        """Time has passed: at least once a second, and at every WakeAt."""
        if self.is_finished:
            return
        self._flush_volatile(now)
        self._send_corrections(now)
        self._warn_of_inactivity(now)
        self._note_gap(now)
        self._is_ending = self._is_ending and self.is_host_absent
        if (absent_since := self._roster.host_absent_since) is not None:
            patience = self._host_grace_seconds if self._roster.host_was_seen else FIRST_HOST_SECONDS
            if now - absent_since >= patience and not self._is_ending:
                self._is_ending = True
                self._emit(effects.EndSession(HOST_DISCONNECTED))
        elif not self._fanout.links and self._commits.is_empty:
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
            self._emit(effects.SendFrame(link, RoomFrame(close=close)))
            self._emit(effects.EndStream(link))
        self._finish()

    def publish_end(self, reason: str, now: float) -> None:
        """As `end`, and the other replicas are told."""
        if not self.is_finished:
            self._emit(effects.Publish(RelayFrame(session_ended=SessionEnded(reason=reason))))
            self.end(reason, now)

    def settle(self, ending_id: str, reason: str) -> None:
        """The session is about to end: gets everything that gateways have received, and its outcome."""
        self._end_reason = reason
        for link in self._fanout.links:
            self._emit(effects.SendFrame(link, RoomFrame(settle=Settle(ending_id=ending_id))))
        self._endings[ending_id] = Ending(set(self._fanout.links))
        self._tell_settled()

    def settled(self, link: str, ending_id: str) -> None:
        """A gateway has forwarded everything."""
        if ending := self._endings.get(ending_id):
            ending.waits_for.discard(link)
            ending.operations = self._commits.added
            self._tell_settled()

    def _tell_settled(self) -> None:
        for ending_id, ending in list(self._endings.items()):
            if not ending.waits_for and self._commits.finished >= ending.operations:
                del self._endings[ending_id]
                self._emit(effects.TellSettled(ending_id))

    def volatile_relayed(self, message: RelayedVolatile) -> None:
        """A presenter's message from another replica."""
        self._fanout.broadcast(message.text, message.except_socket_id, is_volatile=True)

    def _finish(self) -> None:
        self.is_finished = True
        for socket in self.sockets.values():
            self._emit(effects.RemovePresence(socket))
        self.sockets.clear()
        self._emit(effects.Finished())

    # Frames

    def relayed_direct(self, message: RelayedDirect) -> None:
        """A message from another replica for one socket, which may be here."""
        if socket := self.sockets.get(message.socket_id):
            self._direct(socket, message.text)

    def _send(self, socket: ConnectedSocket, text: bytes) -> None:
        """Sends a message to a socket on any replica."""
        if local := self.sockets.get(socket.socket_id):
            self._direct(local, text)
        else:
            direct = RelayedDirect(socket_id=socket.socket_id, text=text)
            self._emit(effects.Publish(RelayFrame(direct=direct)))

    def _direct(self, socket: LocalSocket, text: bytes) -> None:
        self._emit(effects.SendFrame(socket.link, RoomFrame(direct=Direct(socket_id=socket.socket_id, text=text))))

    def _close(self, socket: LocalSocket, code: int, reason: str) -> None:
        close = Close(socket_id=socket.socket_id, code=code, reason=reason)
        self._emit(effects.SendFrame(socket.link, RoomFrame(close=close)))

    def _acknowledge(self, link: str, socket_id: str, number: int) -> None:
        if link in self._fanout.links:
            self._emit(effects.SendFrame(link, RoomFrame(ack=Ack(socket_id=socket_id, number=number))))
