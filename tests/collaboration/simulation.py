"""A deterministic model of the whole collaboration path: real rooms and real gateway bookkeeping,
connected by streams, a relay, a presence store and a sequencer that a random schedule disturbs."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from gateway.sockets.delivery import RoomDelivery, SocketDelivery
from services.collaboration import effects
from services.collaboration.participants import ConnectedSocket
from services.collaboration.room import Room
from tmi.collaboration.v1.relay_pb2 import PresenceChanged, RelayFrame
from tmi.collaboration.v1.rooms_pb2 import GatewayFrame, RoomFrame
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1 import sequencer_pb2 as sequencer

DIAGRAM = "5d0b6c10-0000-4000-8000-000000000001"
SESSION = "5d0b6c10-0000-4000-8000-000000000002"
START_VECTOR = 7
GATHERING_SECONDS = 0.05
"""How long a client gathers what is drawn before it sends it."""
KEEPALIVE_SECONDS = 7.0
"""After how long a gateway gives a frozen replica up."""


def principal(name: str) -> Principal:
    return Principal(
        user_id=f"id-{name}",
        provider="tmi",
        provider_id=name,
        email=f"{name}@example.com",
        display_name=name,
        expires_at=4_000_000_000,
    )


@dataclass(frozen=True)
class Chaos:
    """How a schedule disturbs the system. Probabilities and seconds."""

    loss: float = 0.1
    duplication: float = 0.1
    delay: float = 0.05
    kills: float = 0.4
    freezes: float = 0.0
    stalls: float = 0.3
    disconnects: float = 0.5
    truncation: bool = False
    slow_clients: float = 0.15
    seconds: float = 6.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (max(time, self.now), self._count, action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def run_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end


def draw(cells: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    """Lays changes over cells: given keys replace those that were there."""
    for change in changes:
        before = cells.get(change["id"])
        if change["operation"] == "remove":
            cells.pop(change["id"], None)
        elif isinstance(before, dict) and isinstance(change["data"], dict):
            cells[change["id"]] = before | change["data"]
        else:
            cells[change["id"]] = change["data"]


class ModelSequencer:
    """Last writer wins per key of a cell. An operation on the cell `rejected` is refused, a reader's is denied."""

    def __init__(self, *, log_limit: int | None) -> None:
        self.vector = START_VECTOR
        self.log: dict[int, sequencer.CommittedOperation] = {}
        self.cells: dict[str, Any] = {}
        self.by_id: dict[str, sequencer.CommittedOperation] = {}
        self.readers: set[str] = set()
        self.is_open = True
        self._log_limit = log_limit

    def commit(self, operations: tuple[sequencer.OperationRequest, ...]) -> sequencer.CommitOperationsResponse:
        if not self.is_open:
            return sequencer.CommitOperationsResponse(session_ended=True, update_vector=self.vector)
        results = [self._commit_one(operation) for operation in operations]
        return sequencer.CommitOperationsResponse(results=results, update_vector=self.vector)

    def _commit_one(self, request: sequencer.OperationRequest) -> sequencer.OperationResult:
        if known := self.by_id.get(request.operation_id):
            return sequencer.OperationResult(outcome=sequencer.OUTCOME_REPEATED, committed=known)
        if request.initiator.provider_id in self.readers:
            return sequencer.OperationResult(outcome=sequencer.OUTCOME_DENIED)
        changes = orjson.loads(request.operation)["cells"]
        if any(change["id"] == "rejected" for change in changes):
            return sequencer.OperationResult(
                outcome=sequencer.OUTCOME_REJECTED, reason="conflict_detected", message="no", requires_resync=True
            )
        self.vector += 1
        draw(self.cells, changes)
        whole = [
            change if change["operation"] == "remove" else {**change, "data": self.cells[change["id"]]}
            for change in changes
        ]
        committed = sequencer.CommittedOperation(
            update_vector=self.vector,
            operation_id=request.operation_id,
            socket_id=request.socket_id,
            initiating_user=orjson.dumps({"email": request.initiator.email}),
            operation=orjson.dumps({"type": "patch", "cells": whole}),
        )
        self.log[self.vector] = self.by_id[request.operation_id] = committed
        return sequencer.OperationResult(outcome=sequencer.OUTCOME_ACCEPTED, committed=committed)

    def read(self, after: int) -> sequencer.ReadOperationsResponse:
        first = START_VECTOR if self._log_limit is None else max(START_VECTOR, self.vector - self._log_limit)
        complete = after >= first
        operations = [self.log[vector] for vector in range(after + 1, min(self.vector, after + 20) + 1)]
        return sequencer.ReadOperationsResponse(
            operations=operations if complete else [],
            update_vector=self.vector,
            complete=complete,
            session_id=SESSION if self.is_open else "",
        )

    def state(self) -> sequencer.DiagramState:
        cells = [{"id": cell_id, "data": data} for cell_id, data in self.cells.items()]
        return sequencer.DiagramState(
            diagram_id=DIAGRAM,
            session_id=SESSION if self.is_open else "",
            start_vector=START_VECTOR,
            update_vector=self.vector,
            cells=orjson.dumps(cells),
        )

    def role(self, who: Principal) -> "sequencer.Role.ValueType":
        return sequencer.ROLE_READER if who.provider_id in self.readers else sequencer.ROLE_WRITER


class Pipe:
    """One direction of a stream: in order, with random delays, until it is cut."""

    def __init__(self, world: "World", deliver: Callable[[Any], None]) -> None:
        self._world = world
        self._deliver = deliver
        self._last = 0.0
        self.is_cut = False

    def send(self, item: Any) -> None:
        if not self.is_cut:
            self._last = max(self._last, self._world.clock.now + self._world.delay())
            self._world.clock.at(self._last, lambda: None if self.is_cut else self._deliver(item))


class Replica:
    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = True
        self.epoch = 0
        self.is_frozen = False
        self.is_given_up = False
        self._freezes = 0
        self._postponed: list[Callable[[], None]] = []
        self.room: Room | None = None
        self.links: dict[str, Gateway] = {}

    def live_room(self) -> Room:
        if self.room is None or self.room.is_finished:
            session = sequencer.DiagramSession(
                session_id=SESSION, diagram_id=DIAGRAM, host=principal("host"), start_vector=START_VECTOR
            )
            self.room = Room(session, self.world.clock.now, host_grace_seconds=1e9, inactivity_seconds=1e9)
            self._later(self._read_presence)
        return self.room

    def _later(self, action: Callable[[], None], slow: float = 1.0) -> None:
        self.world.clock.after(self.world.delay() * slow, self._in_this_life(action))

    def _in_this_life(self, action: Callable[[], None]) -> Callable[[], None]:
        epoch = self.epoch
        return lambda: self.act(action) if self.epoch == epoch else None

    def act(self, action: Callable[[], None]) -> None:
        """Does something unless dead; once it is thawed if it is frozen."""
        if self.is_frozen:
            self._postponed.append(action)
        elif self.is_alive:
            action()

    def freeze(self) -> None:
        if self.is_alive and not self.is_frozen:
            self.is_frozen = True
            self._freezes += 1
            this = self._freezes
            self.world.clock.after(KEEPALIVE_SECONDS, lambda: self._give_up() if self._freezes == this else None)

    def _give_up(self) -> None:
        if self.is_frozen:
            self.is_given_up = True
            for link, gateway in self.links.items():
                gateway.lost(link)
                self._postponed.append(lambda link=link: self._lose(link))  # type: ignore[misc]

    def _lose(self, link: str) -> None:
        if self.links.pop(link, None) and self.room is not None:
            self.room.detach(link, self.world.clock.now)
            self.apply()

    def thaw(self) -> None:
        if self.is_frozen:
            self.is_frozen = self.is_given_up = False
            postponed, self._postponed = self._postponed, []
            for action in postponed:
                self.act(action)

    def attach(self, link: str, gateway: "Gateway", delivered: int | None) -> None:
        self.links[link] = gateway
        self.live_room().attach(link, gateway.name, delivered, self.world.clock.now)
        self.apply()

    def receive(self, link: str, frame: GatewayFrame) -> None:
        now = self.world.clock.now
        if frame.HasField("open"):
            delivered = frame.open.delivered_vector if frame.open.HasField("delivered_vector") else None
            self.attach(link, self.world.gateway_of(link), delivered)
            return
        room = self.live_room()
        match frame.WhichOneof("frame"):
            case "join":
                room.join(link, frame.join.socket_id, frame.join.principal, now, is_rejoin=frame.join.rejoin)
            case "leave":
                room.leave(link, frame.leave.socket_id, frame.leave.number, now)
            case "message":
                room.message(link, frame.message.socket_id, frame.message.number, frame.message.text, now)
            case "resync":
                self.world.resyncs += 1
                room.resync(frame.resync.socket_id)
        self.apply()

    def apply(self) -> None:
        if self.room is None:
            return
        for effect in self.room.take_effects():
            self._apply(self.room, effect)

    def _apply(self, room: Room, effect: effects.Effect) -> None:
        world = self.world
        match effect:
            case effects.SendFrame():
                if gateway := self.links.get(effect.link):
                    gateway.downstream(effect.link, effect.frame)
            case effects.EndStream():
                if gateway := self.links.pop(effect.link, None):
                    gateway.lost(effect.link)
            case effects.CommitGroup():
                # Two steps: a replica may die after the commit and before it learns of it.
                def commit() -> None:
                    response = world.sequencer.commit(effect.operations)
                    self._later(lambda: self._do(lambda: room.committed(response, world.clock.now)))

                self._later(commit, slow=random.Random(len(world.sequencer.log)).choice((0.2, 1, 3)))
            case effects.ReadLog():

                def read() -> None:
                    response = world.sequencer.read(effect.after_vector)
                    self._later(lambda: self._do(lambda: room.log_read(effect.after_vector, response, world.clock.now)))

                self._later(read)
            case effects.FetchState():

                def fetch() -> None:
                    state = world.sequencer.state()
                    self._later(lambda: self._do(lambda: room.state_fetched(state, world.clock.now)), slow=2)

                self._later(fetch)
            case effects.CheckAccess():

                def check() -> None:
                    roles = {socket_id: world.sequencer.role(who) for socket_id, who in effect.principals}
                    self._later(lambda: self._do(lambda: room.access_checked(roles, world.clock.now)))

                self._later(check)
            case effects.Publish():
                world.publish(self, effect.frame)
            case effects.StorePresence():
                if not world.is_stalled:
                    world.presence[effect.socket.socket_id] = (self.name, world.clock.now + 15, effect.socket)
                    world.publish(self, RelayFrame(presence_changed=PresenceChanged()))
            case effects.RemovePresence():
                entry = world.presence.get(effect.socket.socket_id)
                if not world.is_stalled and entry and entry[0] == self.name:
                    del world.presence[effect.socket.socket_id]
                    world.publish(self, RelayFrame(presence_changed=PresenceChanged()))
            case effects.WakeAt():
                world.clock.at(effect.time, self._in_this_life(lambda: self._do(lambda: room.tick(world.clock.now))))

    def _do(self, action: Callable[[], None]) -> None:
        action()
        self.apply()

    def relayed(self, frame: RelayFrame) -> None:
        self.act(lambda: self._relayed(frame))

    def _relayed(self, frame: RelayFrame) -> None:
        if self.room is None or self.room.is_finished:
            return
        match frame.WhichOneof("frame"):
            case "operations":
                self.room.relayed(frame.operations.operations, self.world.clock.now)
            case "presence_changed":
                self._later(self._read_presence)
        self.apply()

    def _read_presence(self) -> None:
        if self.room is None or self.room.is_finished:
            return
        now = self.world.clock.now
        if self.world.is_stalled:
            self.room.presence_unavailable()
        else:
            live: list[ConnectedSocket] = [socket for _, expiry, socket in self.world.presence.values() if expiry > now]
            self.room.presence(live, now)
        self.apply()

    def poll(self) -> None:
        if self.is_alive and not self.is_frozen and self.room is not None and not self.room.is_finished:
            self.room.poll()
            self.room.tick(self.world.clock.now)
            self.apply()

    def heartbeat(self) -> None:
        if self.is_alive and not self.is_frozen and self.room is not None and not self.room.is_finished:
            if not self.world.is_stalled:
                for socket in self.room.sockets.values():
                    if socket.role:
                        entry = (self.name, self.world.clock.now + 15, socket)
                        self.world.presence[socket.socket_id] = entry
            self._later(self._read_presence)

    def kill(self) -> None:
        self.is_alive = self.is_frozen = self.is_given_up = False
        self._postponed.clear()
        self.epoch += 1
        self.room = None
        links, self.links = self.links, {}
        for link, gateway in links.items():
            gateway.lost(link)

    def start(self) -> None:
        self.is_alive = True


class Gateway:
    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.delivery: RoomDelivery | None = None
        self._link = ""
        self._links = 0
        self._up: Pipe | None = None
        self._down: Pipe | None = None

    def join(self, socket_id: str, who: Principal, wake: Callable[[], None]) -> SocketDelivery:
        if self.delivery is None:
            session = sequencer.DiagramSession(session_id=SESSION, diagram_id=DIAGRAM, start_vector=START_VECTOR)
            self.delivery = RoomDelivery(session, self.name, self.world.queue_limit)
            self.world.clock.after(0, self.attach)
        socket = self.delivery.join(socket_id, who, wake, lambda _: False, lambda: None)
        self.flush()
        return socket

    def attach(self) -> None:
        assert self.delivery is not None
        alive = [replica for replica in self.world.replicas if replica.is_alive and not replica.is_given_up]
        if not alive:
            self.world.clock.after(0.1, self.attach)
            return
        replica = self.world.random.choice(alive)
        self._links += 1
        link = self._link = f"{self.name}#{self._links}"
        self.world.links[link] = self
        self._up = Pipe(self.world, lambda frame: replica.act(lambda: replica.receive(link, frame)))
        self._down = Pipe(self.world, lambda frame: self._receive(frame))
        replica.links[link] = self
        for frame in self.delivery.reattach():
            self._up.send(frame)

    def flush(self) -> None:
        if self.delivery is not None and self._up is not None and not self._up.is_cut:
            while self.delivery.outgoing:
                self._up.send(self.delivery.outgoing.popleft())

    def downstream(self, link: str, frame: RoomFrame) -> None:
        if link == self._link and self._down is not None:
            self._down.send(frame)

    def _receive(self, frame: RoomFrame) -> None:
        assert self.delivery is not None
        self.delivery.receive(frame)
        self.flush()

    def lost(self, link: str) -> None:
        if link == self._link:
            self._link = ""
            for pipe in (self._up, self._down):
                if pipe is not None:
                    pipe.is_cut = True
            self.world.clock.after(self.world.delay(), self.attach)


@dataclass
class Client:
    """A client that checks what it is sent as it comes, and draws as the web client does.

    It draws its own edits at once, is not sent them again, and drops events of its own user.
    """

    world: "World"
    name: str
    gateway: Gateway
    is_slow: bool
    socket: SocketDelivery | None = None
    # Of what came in order, own operations included; and what the web client takes for the diagram's.
    vector: int | None = None
    base_vector: int = 0
    cells: dict[str, Any] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    participants: set[str] | None = None
    connections: int = 0
    states: int = 0
    corrections: int = 0
    gathered: int = 0
    _is_reading: bool = False

    def connect(self) -> None:
        delivery = self.gateway.delivery
        if delivery and any(known.startswith(f"{self.name}.") for known in delivery.sockets if self.socket is None):
            # The web client never shows what another socket of its user draws: not even an earlier one.
            self.world.clock.after(0.05, self.connect)
        elif self.socket is None:
            self.connections += 1
            self.vector = None
            self.participants = None
            socket_id = f"{self.name}.{self.connections}"
            self.socket = self.gateway.join(socket_id, principal(self.name), self._wake)

    def disconnect(self) -> None:
        if self.gathered:
            # It says what it has drawn before it leaves.
            self.world.clock.after(GATHERING_SECONDS, self.disconnect)
        elif self.socket is not None:
            assert self.gateway.delivery is not None
            self.gateway.delivery.leave(self.socket)
            self.gateway.flush()
            self.socket = None

    def edit(self, cell: str, key: str) -> None:
        if self.socket is None or self.vector is None or not self.socket.can_send_more or self.socket.closing:
            return
        operation_id = str(UUID(int=self.world.random.getrandbits(128)))
        change: dict[str, Any] = {"id": cell, "operation": "update", "data": {key: operation_id}}
        if key == "remove":
            change = {"id": cell, "operation": "remove"}
        if cell != "rejected" and self.name not in self.world.sequencer.readers:
            draw(self.cells, [change])
        # What is drawn is gathered for a while; the vector is the one that is known at its end. (A client that
        # reads seconds late would have to gather nothing for anybody to know what it drew when.)
        socket = self.socket
        self.gathered += 1
        self.world.clock.after(
            0 if self.is_slow else GATHERING_SECONDS, lambda: self._send(socket, operation_id, change)
        )

    def _send(self, socket: SocketDelivery, operation_id: str, change: dict[str, Any]) -> None:
        self.gathered -= 1
        if socket.closing:
            return
        self.sent.append(operation_id)
        if change["id"] == "rejected":
            self.world.to_be_rejected.add(operation_id)
        self.world.sent_by.setdefault(socket.socket_id, []).append(operation_id)
        text = orjson.dumps(
            {
                "message_type": "diagram_operation_request",
                "operation_id": operation_id,
                "base_vector": self.base_vector,
                "operation": {"type": "patch", "cells": [change]},
            }
        )
        assert self.gateway.delivery is not None
        self.gateway.delivery.message(socket, text)
        self.gateway.flush()

    def _wake(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self.world.clock.after(
                self.world.delay() * (20 if self.is_slow and not self.world.is_healing else 0.1), self._read
            )

    def _read(self) -> None:
        self._is_reading = False
        socket = self.socket
        if socket is None:
            return
        for _ in range(2 if self.is_slow and not self.world.is_healing else 100):
            if socket.queue:
                self._take(socket, orjson.loads(socket.take()))
        if socket.queue:
            self._wake()
            return
        socket.drained()
        if socket.closing:
            self.world.closes.append(socket.closing)
            self.disconnect()

    def _take(self, socket: SocketDelivery, message: dict[str, Any]) -> None:
        match message["message_type"]:
            case "diagram_state":
                self.states += 1
                self.vector = self.base_vector = message["update_vector"]
                self.cells = {cell["id"]: cell["data"] for cell in message["cells"]}
            case "diagram_operation_event":
                self._event(socket, message)
            case "participants_update":
                assert self.vector is not None, "participants_update before diagram_state"
                self.participants = {entry["user"]["provider_id"] for entry in message["participants"]}
            case "operation_rejected":
                self.answered.add(message["operation_id"])
            case "authorization_denied":
                self.answered.add(message["original_operation_id"])

    def _event(self, socket: SocketDelivery, message: dict[str, Any]) -> None:
        log = self.world.sequencer.log
        vector = message["update_vector"]
        assert self.vector is not None, f"{self.name}: event {vector} before a state"
        if log[vector].socket_id == socket.socket_id:
            assert message["operation_id"] not in self.world.sequencer.by_id, f"{self.name}: echo of {vector}"
            self.corrections += 1
            self._draw(message)
            return
        assert vector > self.vector, f"{self.name}: event {vector} after {self.vector}"
        assert message["sequence_number"] == vector - START_VECTOR
        assert log[vector].operation_id == message["operation_id"]
        self.advance(socket.socket_id, vector - 1)
        self.vector = vector
        self._draw(message)

    def _draw(self, message: dict[str, Any]) -> None:
        self.base_vector = max(self.base_vector, message["update_vector"])
        if message["initiating_user"]["email"] != principal(self.name).email:
            for change in message["operation"]["cells"]:
                # Events carry whole cells.
                self.cells.pop(change["id"], None)
                draw(self.cells, [change])

    def advance(self, socket_id: str, vector: int) -> None:
        """Own operations are not echoed: they alone may fill the space between two events."""
        log = self.world.sequencer.log
        while self.vector is not None and self.vector < vector:
            missed = log[self.vector + 1]
            assert missed.socket_id == socket_id, f"{self.name}: gap at {self.vector + 1}"
            self.vector += 1


class World:
    """One schedule. `run` disturbs, heals and checks."""

    def __init__(self, seed: int, chaos: Chaos, *, replicas: int = 3, gateways: int = 2, clients: int = 5) -> None:
        self.random = random.Random(seed)
        self.chaos = chaos
        self.clock = Clock()
        self.queue_limit = 12
        self.is_stalled = False
        self.is_healing = False
        self.presence: dict[str, tuple[str, float, ConnectedSocket]] = {}
        self.links: dict[str, Gateway] = {}
        self.sent_by: dict[str, list[str]] = {}
        self.closes: list[tuple[int, str]] = []
        self.to_be_rejected: set[str] = set()
        self.resyncs = 0
        self.sequencer = ModelSequencer(log_limit=3 if chaos.truncation else None)
        self.replicas = [Replica(self, f"replica-{number}") for number in range(replicas)]
        self.gateways = [Gateway(self, f"gateway-{number}") for number in range(gateways)]
        names = ["host", *(f"user-{number}" for number in range(1, clients))]
        self.sequencer.readers = {names[-1]}
        self.clients = [
            Client(self, name, self.random.choice(self.gateways), self.random.random() < chaos.slow_clients)
            for name in names
        ]

    def delay(self) -> float:
        return self.random.random() ** 3 * self.chaos.delay

    def gateway_of(self, link: str) -> Gateway:
        return self.links[link]

    def publish(self, source: Replica, frame: RelayFrame) -> None:
        if self.is_stalled:
            return
        for replica in self.replicas:
            if replica is source:
                continue
            copies = 0 if self._happens(self.chaos.loss) else 1
            copies += self._happens(self.chaos.duplication)
            for _ in range(copies):
                self.clock.after(self.delay() * 2, lambda replica=replica: replica.relayed(frame))  # type: ignore[misc]

    def _happens(self, probability: float) -> bool:
        return not self.is_healing and self.random.random() < probability

    def run(self) -> None:
        end = self.clock.now + self.chaos.seconds
        for client in self.clients:
            self.clock.after(self.random.random(), client.connect)
        for replica in self.replicas:
            self._repeat(0.25, replica.poll)
            self._repeat(2.0, replica.heartbeat)
        self._schedule_edits(end)
        self._schedule_faults(end)
        self.clock.run_until(end)
        self._heal()
        self.clock.run_until(end + 30)
        self._check()

    def _repeat(self, seconds: float, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            self.clock.after(seconds, again)

        self.clock.after(seconds, again)

    def _schedule_edits(self, end: float) -> None:
        time = self.clock.now
        while (time := time + self.random.expovariate(15)) < end:
            client = self.random.choice(self.clients)
            cell = "rejected" if self.random.random() < 0.05 else f"cell-{self.random.randrange(6)}"
            key = self.random.choices(["position", "label", "remove"], weights=[5, 3, 1])[0]
            self.clock.at(time, lambda client=client, cell=cell, key=key: client.edit(cell, key))  # type: ignore[misc]

    def _schedule_faults(self, end: float) -> None:
        time = self.clock.now
        while (time := time + 0.5) < end:
            if self.random.random() < self.chaos.kills:
                replica = self.random.choice(self.replicas)
                self.clock.at(time + self.random.random(), replica.kill)
                self.clock.at(time + self.random.random() * 3, replica.start)
            if self.random.random() < self.chaos.freezes:
                replica = self.random.choice(self.replicas)
                self.clock.at(time, replica.freeze)
                self.clock.at(time + self.random.expovariate(1 / KEEPALIVE_SECONDS), replica.thaw)
            if self.random.random() < self.chaos.stalls:
                self.clock.at(time, lambda: self._stall(True))
                self.clock.at(time + self.random.random(), lambda: self._stall(False))
            if self.random.random() < self.chaos.disconnects:
                client = self.random.choice(self.clients)
                self.clock.at(time, client.disconnect)
                self.clock.at(time + self.random.random(), client.connect)

    def _stall(self, stalled: bool) -> None:
        self.is_stalled = stalled

    def _heal(self) -> None:
        self.is_healing = True
        self.is_stalled = False
        for replica in self.replicas:
            replica.start()
            replica.thaw()
        for client in self.clients:
            client.connect()

    def _check(self) -> None:
        accepted = {operation.operation_id for operation in self.sequencer.log.values()}
        assert len(accepted) == len(self.sequencer.log), "an operation was committed twice"
        for client in self.clients:
            self._check_client(client, accepted)
        for socket_id, operation_ids in self.sent_by.items():
            in_log = [entry.operation_id for entry in self.sequencer.log.values() if entry.socket_id == socket_id]
            assert in_log == [known for known in operation_ids if known in accepted], f"{socket_id}: order changed"

    def _check_client(self, client: Client, accepted: set[str]) -> None:
        if client.socket is None:
            assert (4408, "too slow") in self.closes, f"{client.name} was closed"
            return
        assert not client.socket.unacknowledged, f"{client.name}: unsettled messages"
        client.advance(client.socket.socket_id, self.sequencer.vector)
        assert client.vector == self.sequencer.vector, f"{client.name} stopped at {client.vector}"
        assert client.cells == self.sequencer.cells, f"{client.name} has other cells"
        if client.name not in self.sequencer.readers:
            for operation_id in client.sent:
                entries = [entry for entry in self.sequencer.log.values() if entry.operation_id == operation_id]
                assert len(entries) == (operation_id not in self.to_be_rejected), f"{operation_id} was lost"
        connected = {other.name for other in self.clients if other.socket is not None}
        assert client.participants == connected, f"{client.name} sees {client.participants}, not {connected}"
