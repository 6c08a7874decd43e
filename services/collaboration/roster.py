"""Who is in a session on any replica, as far as this replica knows."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.collaboration.participants import ConnectedSocket, Participant, participants, same_user
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import Role

DEPARTED_SECONDS = 30.0
"""How long the shared presence may still name a socket that has left."""


@dataclass(slots=True)
class LocalSocket(ConnectedSocket):
    """A socket that is connected through one of this room's streams."""

    link: str
    # Joined, and the others have not been told yet.
    is_new: bool
    needs_state: bool
    # Starts over: it may have missed a participants_update.
    needs_participants: bool = False
    # Joined while a snapshot was read: that one may lack what an earlier socket of the same user has sent,
    # which web clients do not draw as an event.
    is_too_late: bool = False
    # Of messages that are acknowledged once the state was sent.
    held_acks: list[tuple[str, str, int]] = field(default_factory=list)


class Roster:
    """Sockets of this replica and, from the shared presence, of all others. Times are Unix seconds."""

    def __init__(self, host: Principal, now: float) -> None:
        self.local: dict[str, LocalSocket] = {}
        self.host_was_seen = False
        # None while a socket of the host is known.
        self.host_absent_since: float | None = now
        self._host = host
        self._remote: dict[str, ConnectedSocket] = {}
        self._departed: dict[str, float] = {}
        self._is_presence_known = False

    def add(self, link: str, socket_id: str, principal: Principal, now: float, *, is_new: bool) -> LocalSocket:
        """A socket of this replica: new, or taken over together with what was known of it."""
        known = self._remote.pop(socket_id, None)
        socket = self.local[socket_id] = LocalSocket(
            socket_id=socket_id,
            principal=principal,
            role=known.role if known else Role.ROLE_UNSPECIFIED,
            joined_at=known.joined_at if known else now,
            last_activity_at=now,
            link=link,
            is_new=is_new,
            needs_state=is_new,
        )
        self._note_host(now)
        return socket

    def remove(self, socket_id: str, now: float) -> LocalSocket | None:
        """A socket of this replica is gone for good."""
        socket = self.local.pop(socket_id, None)
        if socket is not None:
            self._departed[socket_id] = now
            self._note_host(now)
        return socket

    def lose(self, link: str, now: float) -> list[str]:
        """A stream ended without goodbye: its sockets, answered, count as present until their presence expires."""
        lost = [socket for socket in self.local.values() if socket.link == link]
        for socket in lost:
            del self.local[socket.socket_id]
            if not socket.is_new:
                self._remote[socket.socket_id] = socket
        self._note_host(now)
        return [socket.socket_id for socket in lost]

    def read_presence(self, sockets: Iterable[ConnectedSocket], now: float) -> bool:
        """Takes what the shared presence says; tells whether sockets came or went elsewhere."""
        self._departed = {known: at for known, at in self._departed.items() if now - at < DEPARTED_SECONDS}
        before = set(self._remote)
        self._remote = {}
        for socket in sockets:
            if local := self.local.get(socket.socket_id):
                local.joined_at = min(local.joined_at, socket.joined_at)
            elif socket.socket_id not in self._departed:
                self._remote[socket.socket_id] = socket
        self._is_presence_known = True
        self._note_host(now)
        return set(self._remote) != before

    def presence_unavailable(self) -> None:
        """The shared presence cannot be read: what is known stays as it is."""
        self._is_presence_known = True

    @property
    def is_complete(self) -> bool:
        """False until the presence was read, and just after sockets whose roles are not known were taken over."""
        return self._is_presence_known and not any(
            not socket.is_new and socket.role == Role.ROLE_UNSPECIFIED for socket in self.local.values()
        )

    def sockets_of(self, provider: str, provider_id: str) -> list[ConnectedSocket]:
        """The sockets of a user on any replica, the one that was active last first."""
        sockets = [*self.local.values(), *self._remote.values()]
        own = [
            socket
            for socket in sockets
            if (socket.principal.provider, socket.principal.provider_id) == (provider, provider_id)
        ]
        return sorted(own, key=lambda socket: socket.last_activity_at, reverse=True)

    def participants(self) -> list[Participant]:
        """Everybody who has been introduced."""
        local = [socket for socket in self.local.values() if not socket.is_new and socket.role != Role.ROLE_UNSPECIFIED]
        return participants([*local, *self._remote.values()])

    def _note_host(self, now: float) -> None:
        sockets: list[ConnectedSocket] = [*self.local.values(), *self._remote.values()]
        if any(same_user(socket.principal, self._host) for socket in sockets):
            self.host_was_seen = True
            self.host_absent_since = None
        elif self.host_absent_since is None:
            self.host_absent_since = now
