"""What a room wants done, in order, and the frames for single sockets."""

from collections.abc import Container, Iterable

from services.collaboration import effects
from services.collaboration.roster import LocalSocket
from tmi.collaboration.v1.rooms_pb2 import Ack, Close, Direct, RoomFrame

MessageKey = tuple[str, str, int]
"""Stream, socket and number of a client's message."""


class Outbox:
    """Collects effects until they are taken."""

    def __init__(self) -> None:
        self.links: Container[str] = ()
        """The streams that are attached: nothing is acknowledged to another."""
        self._effects: list[effects.Effect] = []

    def take(self) -> list[effects.Effect]:
        """What is to be done; the list is handed over once."""
        taken, self._effects = self._effects, []
        return taken

    def emit(self, effect: effects.Effect) -> None:
        """Adds an effect."""
        self._effects.append(effect)

    def send(self, link: str, frame: RoomFrame) -> None:
        """A frame for a stream."""
        self._effects.append(effects.SendFrame(link, frame))

    def direct(self, socket: LocalSocket, text: bytes) -> None:
        """A text for one socket."""
        self.send(socket.link, RoomFrame(direct=Direct(socket_id=socket.socket_id, text=text)))

    def close(self, socket: LocalSocket, code: int, reason: str) -> None:
        """Closes one socket."""
        self.send(socket.link, RoomFrame(close=Close(socket_id=socket.socket_id, code=code, reason=reason)))

    def acknowledge(self, link: str, socket_id: str, number: int) -> None:
        """Tells a gateway that a message is settled."""
        if link in self.links:
            self.send(link, RoomFrame(ack=Ack(socket_id=socket_id, number=number)))

    def acknowledge_all(self, keys: Iterable[MessageKey]) -> None:
        """The same for several."""
        for key in keys:
            self.acknowledge(*key)
