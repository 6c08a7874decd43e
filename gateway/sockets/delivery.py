"""What a gateway knows about a room: which events its sockets have, and which messages are settled.

Pure bookkeeping without I/O. Frames of the room's stream go in (`receive`), texts for the sockets
come out in their queues, frames for the stream in `outgoing`. When the stream is lost, `reattach`
says how to go on with another replica so that no socket notices.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.sockets.protocol import WriteFrame, text_frame
from tmi.collaboration.v1.rooms_pb2 import (
    Broadcast,
    Close,
    GatewayFrame,
    Join,
    Leave,
    Message,
    Open,
    Resync,
    RoomFrame,
    Settled,
    State,
)
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import DiagramSession

CLOSE_TOO_SLOW = 4408
UNACKNOWLEDGED_MESSAGES = 4096
"""Messages of a socket under way; beyond it the gateway stops reading from the client, pings included.
A person cannot reach it while a lost replica is replaced."""
UNACKNOWLEDGED_BYTES = 8 * 1024 * 1024
"""The same limit in bytes, however many messages these are."""
QUEUE_BYTES = 16 * 1024 * 1024
"""A socket with more than this to read starts over from a state, however few messages these are."""
VOLATILE_FRACTION = 8
"""Volatile messages are dropped when more than this fraction of the queue is in use."""


@dataclass(slots=True)
class SocketDelivery:
    """A socket's way out and in.

    wake: called when there is something new to send or to read. write_now: writes a frame if the
    queue is empty and written, and the client takes it without waiting. probe: drops the connection unless
    the client shows soon that it is there.
    """

    socket_id: str
    principal: Principal
    queue_limit: int
    wake: Callable[[], None]
    write_now: WriteFrame
    probe: Callable[[], None]
    queue: deque[str] = field(default_factory=deque)
    closing: tuple[int, str] | None = None
    # Has the state that events apply to; events up to `vector` are contained in it.
    is_synced: bool = False
    vector: int = 0
    had_state: bool = False
    # Dropped its queue and has not emptied it since.
    is_lagging: bool = False
    has_departed: bool = False
    is_leave_settled: bool = False
    last_number: int = 0
    queued_bytes: int = 0
    # By number; the last one of a socket that has departed is its Leave, which stays to the end: a replica
    # that is told what comes before it must be told that the socket has left.
    unacknowledged: dict[int, Message] = field(default_factory=dict)
    unacknowledged_bytes: int = 0

    def drained(self) -> None:
        """Everything in the queue was written."""
        self.is_lagging = False

    @property
    def can_send_more(self) -> bool:
        """False while too many of the client's messages are under way."""
        return self.closing is not None or (
            len(self.unacknowledged) < UNACKNOWLEDGED_MESSAGES and self.unacknowledged_bytes < UNACKNOWLEDGED_BYTES
        )

    def close(self, code: int, reason: str, last_text: str = "") -> None:
        """Closes the socket after what is queued; the first close counts."""
        if self.closing is None:
            if last_text:
                self._append(last_text)
            self.closing = (code, reason)
            self.wake()

    def push(self, text: str) -> None:
        """Queues a text."""
        if self.closing is None:
            self._append(text)
            self.wake()

    def _append(self, text: str) -> None:
        self.queue.append(text)
        self.queued_bytes += len(text)

    def take(self) -> str:
        """The next text to be written."""
        text = self.queue.popleft()
        self.queued_bytes -= len(text)
        return text

    def clear(self) -> None:
        """Drops what is queued."""
        self.queue.clear()
        self.queued_bytes = 0

    @property
    def is_full(self) -> bool:
        """True when the client is so far behind that it should start over."""
        return len(self.queue) >= self.queue_limit or self.queued_bytes >= QUEUE_BYTES


class RoomDelivery:
    """The sockets of one session in this gateway process."""

    def __init__(self, session: DiagramSession, gateway_id: str, queue_limit: int) -> None:
        self.outgoing: deque[GatewayFrame] = deque()
        self.sockets: dict[str, SocketDelivery] = {}
        # Of the last numbered event delivered.
        self.vector: int | None = None
        # Of the session: code, reason and last text for its sockets.
        self._end: tuple[int, str, str] | None = None
        # Called with the id of an ending: answer with `settled` when nothing more is on its way.
        self.on_settle = self.settled
        self._session = session
        self._gateway_id = gateway_id
        self._queue_limit = queue_limit

    @property
    def is_closed(self) -> bool:
        """True when the session has ended."""
        return self._end is not None

    @property
    def is_idle(self) -> bool:
        """True when no socket is left and every message is settled."""
        return not self.sockets

    def join(
        self,
        socket_id: str,
        principal: Principal,
        wake: Callable[[], None],
        write_now: WriteFrame,
        probe: Callable[[], None],
    ) -> SocketDelivery:
        """Adds a socket, which will be given its state first."""
        socket = SocketDelivery(socket_id, principal, self._queue_limit, wake, write_now, probe)
        if self._end is not None:
            socket.close(*self._end)
            return socket
        self.sockets[socket_id] = socket
        self.outgoing.append(_join(socket))
        return socket

    def message(self, socket: SocketDelivery, text: bytes, refusal: str = "") -> None:
        """Takes a client's message, and why it is refused if it is. It is kept until the room acknowledges it."""
        socket.last_number += 1
        socket.unacknowledged[socket.last_number] = Message(
            socket_id=socket.socket_id, number=socket.last_number, text=text, refusal=refusal
        )
        socket.unacknowledged_bytes += len(text)
        self.outgoing.append(_unacknowledged(socket, socket.last_number))

    def leave(self, socket: SocketDelivery) -> None:
        """The socket is gone. What it sent before still has to be settled."""
        if self.sockets.get(socket.socket_id) is not socket or socket.has_departed:
            return
        socket.has_departed = True
        socket.clear()
        socket.last_number += 1
        socket.unacknowledged[socket.last_number] = Message()
        self.outgoing.append(_unacknowledged(socket, socket.last_number))

    def settled(self, ending_id: str) -> None:
        """Says that everything clients had sent before was forwarded."""
        self.outgoing.append(GatewayFrame(settled=Settled(ending_id=ending_id)))

    def reattach(self) -> list[GatewayFrame]:
        """Every frame that a new stream begins with, in order."""
        self.outgoing.clear()
        frames = [
            GatewayFrame(open=Open(session=self._session, gateway_id=self._gateway_id, delivered_vector=self.vector))
        ]
        for socket in self.sockets.values():
            socket.is_leave_settled = False
            frames.append(_join(socket))
            if socket.had_state and not socket.is_synced:
                frames.append(_resync(socket))
            frames += [_unacknowledged(socket, number) for number in socket.unacknowledged]
        return frames

    def receive(self, frame: RoomFrame) -> None:
        """Takes a frame of the room's stream."""
        match frame.WhichOneof("frame"):
            case "broadcast":
                self._broadcast(frame.broadcast)
            case "direct":
                if (socket := self._present(frame.direct.socket_id)) and self._has_room(socket):
                    socket.push(frame.direct.text.decode())
            case "state":
                self._state(frame.state)
            case "ack":
                self._acknowledged(frame.ack.socket_id, frame.ack.number)
            case "close":
                self._close(frame.close)
            case "settle":
                self.on_settle(frame.settle.ending_id)
            case "probe":
                if socket := self._present(frame.probe.socket_id):
                    socket.probe()
            case "rebase":
                self.vector = frame.rebase.update_vector
                for socket in self.sockets.values():
                    socket.is_synced = False

    def _present(self, socket_id: str) -> SocketDelivery | None:
        socket = self.sockets.get(socket_id)
        return None if socket is None or socket.has_departed else socket

    def _broadcast(self, broadcast: Broadcast) -> None:
        vector: int | None = None
        if broadcast.HasField("update_vector"):
            vector = broadcast.update_vector
            if not self._advance(vector):
                return
        frame = text_frame(broadcast.text)
        text = ""
        excepted = broadcast.except_socket_id
        is_volatile = broadcast.is_volatile
        for socket in self.sockets.values():
            if (
                not socket.is_synced
                or socket.has_departed
                or socket.socket_id == excepted
                or (vector is not None and vector <= socket.vector)
            ):
                continue
            queued = len(socket.queue)
            if not queued and socket.closing is None and socket.write_now(frame):
                continue
            if is_volatile and queued > socket.queue_limit // VOLATILE_FRACTION:
                continue
            if self._has_room(socket):
                text = text or broadcast.text.decode()
                socket.push(text)

    def _advance(self, vector: int) -> bool:
        """True when the event is the next one. After a gap every socket needs its state anew."""
        if self.vector is not None and vector <= self.vector:
            return False
        is_next = self.vector is not None and vector == self.vector + 1
        self.vector = vector
        if not is_next:
            for socket in self.sockets.values():
                self._resync(socket)
        return is_next

    def _resync(self, socket: SocketDelivery) -> None:
        if socket.is_synced:
            socket.is_synced = False
            if not socket.has_departed:
                self.outgoing.append(_resync(socket))

    def _has_room(self, socket: SocketDelivery) -> bool:
        """Makes a slow consumer start over from a state."""
        if not socket.is_full:
            return True
        self._drop_queue(socket)
        self._resync(socket)
        return False

    def _drop_queue(self, socket: SocketDelivery) -> None:
        """Drops what a slow consumer has not read, or closes it when it had been given that chance."""
        socket.clear()
        if socket.is_lagging:
            socket.close(CLOSE_TOO_SLOW, "too slow")
        socket.is_lagging = True

    def _state(self, state: State) -> None:
        socket = self._present(state.socket_id)
        if socket is None:
            return
        if socket.is_full:
            self._drop_queue(socket)
        socket.is_synced = socket.had_state = True
        socket.vector = state.update_vector
        socket.push(state.text.decode())
        for text in state.following:
            socket.push(text.decode())

    def _acknowledged(self, socket_id: str, number: int) -> None:
        if socket := self.sockets.get(socket_id):
            if socket.has_departed and number == socket.last_number:
                socket.is_leave_settled = True
            elif message := socket.unacknowledged.pop(number, None):
                socket.unacknowledged_bytes -= len(message.text)
            if socket.is_leave_settled and len(socket.unacknowledged) == 1:
                del self.sockets[socket_id]
            socket.wake()

    def _close(self, close: Close) -> None:
        last_text = close.last_text.decode()
        if close.socket_id:
            if socket := self.sockets.get(close.socket_id):
                socket.close(close.code, close.reason, last_text)
            return
        self._end = (close.code, close.reason, last_text)
        for socket in self.sockets.values():
            socket.close(close.code, close.reason, last_text)
        self.sockets.clear()


def _join(socket: SocketDelivery) -> GatewayFrame:
    return GatewayFrame(
        join=Join(
            socket_id=socket.socket_id, principal=socket.principal, rejoin=socket.had_state or socket.has_departed
        )
    )


def _unacknowledged(socket: SocketDelivery, number: int) -> GatewayFrame:
    if socket.has_departed and number == socket.last_number:
        return GatewayFrame(leave=Leave(socket_id=socket.socket_id, number=number))
    return GatewayFrame(message=socket.unacknowledged[number])


def _resync(socket: SocketDelivery) -> GatewayFrame:
    return GatewayFrame(resync=Resync(socket_id=socket.socket_id))
