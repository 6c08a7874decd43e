"""Presenting: cursors and selections of the presenter, and the requests about who presents.

The presenter is the host and stays it; what cannot be done yet is refused in words.
"""

from typing import Literal

from services.collaboration import effects, messages
from services.collaboration.coalescing import Coalescer
from services.collaboration.fanout import Fanout
from services.collaboration.outbox import Outbox
from services.collaboration.participants import ConnectedSocket, same_user
from services.collaboration.roster import LocalSocket, Roster
from tmi.collaboration.v1.relay_pb2 import RelayedDirect, RelayedVolatile, RelayFrame
from tmi.principal.v1.principal_pb2 import Principal

VOLATILE_INTERVAL_SECONDS = 1 / 30

_NO_HISTORY = {
    "undo": "Undo is not available while people edit together.",
    "redo": "Redo is not available while people edit together.",
}


class Presenting:
    """The presenter of one room. Times are Unix seconds."""

    def __init__(self, host: Principal, roster: Roster, fanout: Fanout, outbox: Outbox) -> None:
        self.presenter = host
        self._host = host
        self._roster = roster
        self._fanout = fanout
        self._outbox = outbox
        self._volatile: Coalescer[tuple[str, bytes]] = Coalescer(VOLATILE_INTERVAL_SECONDS)

    def present(self, socket: LocalSocket, message: messages.VolatileMessage, now: float) -> None:
        """A cursor or selection, which counts if it is the presenter's."""
        if same_user(socket.principal, self.presenter):
            self._volatile.offer((message.kind, socket.socket_id), (socket.socket_id, message.text))
            self.flush(now)

    def flush(self, now: float) -> None:
        """Passes on the cursors and selections whose time has come."""
        for socket_id, text in self._volatile.take(now):
            self._fanout.broadcast(text, socket_id, is_volatile=True)
            relayed = RelayedVolatile(text=text, except_socket_id=socket_id)
            self._outbox.emit(effects.Publish(RelayFrame(volatile_message=relayed)))
        if (wake_at := self._volatile.wake_at) is not None:
            self._outbox.emit(effects.WakeAt(wake_at))

    def request(self, socket: LocalSocket, message: messages.Request, now: float) -> bool:
        """Answers a request; True when everybody is to be told who takes part and presents."""
        is_host = same_user(socket.principal, self._host)
        match message.kind:
            case "undo_request" | "redo_request":
                direction: Literal["undo", "redo"] = "undo" if message.kind == "undo_request" else "redo"
                self._outbox.direct(socket, messages.nothing_in_history(direction))
                self._outbox.direct(socket, messages.error("validation_error", _NO_HISTORY[direction], now))
            case "presenter_request":
                if is_host:
                    return True
                self._ask_host(socket)
            case "presenter_denied_request" if is_host and message.user:
                for denied in self._roster.sockets_of(*message.user):
                    self._send(denied, messages.presenter_denied_event(denied.principal))
            case "change_presenter_request" if is_host:
                self._refuse(socket, "The presenter cannot be changed.", now)
            case "remove_participant_request" if is_host:
                self._refuse(socket, "Participants cannot be removed.", now)
        return False

    def _ask_host(self, socket: LocalSocket) -> None:
        host = self._roster.sockets_of(self._host.provider, self._host.provider_id)
        if host:
            self._send(host[0], messages.presenter_request_event(socket.principal))
        else:
            self._outbox.direct(socket, messages.presenter_denied_event(socket.principal))

    def _refuse(self, socket: LocalSocket, words: str, now: float) -> None:
        # invalid_participant is an error that the web client merely shows.
        self._outbox.direct(socket, messages.error("invalid_participant", words, now))

    def _send(self, socket: ConnectedSocket, text: bytes) -> None:
        """Sends a message to a socket on any replica."""
        if local := self._roster.local.get(socket.socket_id):
            self._outbox.direct(local, text)
        else:
            direct = RelayedDirect(socket_id=socket.socket_id, text=text)
            self._outbox.emit(effects.Publish(RelayFrame(direct=direct)))
