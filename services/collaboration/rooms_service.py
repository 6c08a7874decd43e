"""tmi.collaboration.v1.Rooms: what gateways ask for."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import suppress

from redis.exceptions import RedisError

from services.collaboration import metrics
from services.collaboration.endings import Endings
from services.collaboration.live_room import LiveRoom
from services.collaboration.presence import TOO_MANY_CONNECTIONS, Presence
from services.collaboration.relay import Relay
from services.collaboration.room import Room
from services.collaboration.sequencer_client import SequencerClient
from services.collaboration.stream import Stream
from services.collaboration.tickets import Tickets
from services.shared.errors import ApiError, invalid_request, not_found, unauthorized, unavailable
from services.shared.principal import Call
from services.shared.uuids import uuid4
from tmi.collaboration.v1.relay_pb2 import ProbeUser, RelayFrame, SessionEnded
from tmi.collaboration.v1.rooms_pb2 import (
    AdmitRequest,
    AdmitResponse,
    GatewayFrame,
    GatewayFrames,
    RoomFrames,
)
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import DiagramSession

logger = logging.getLogger(__name__)

PROBE_SECONDS = 4.0
"""How long a newcomer waits until the places of dead sockets are free: 3 s of silence, and some to tell."""
PROBE_INTERVAL_SECONDS = 0.25


class RoomsService:
    """Admits sockets and keeps the rooms of this replica."""

    def __init__(
        self,
        sequencer: SequencerClient,
        presence: Presence,
        tickets: Tickets,
        relay: Relay,
        endings: Endings,
        *,
        host_grace_seconds: float,
        inactivity_seconds: float,
    ) -> None:
        self._sequencer = sequencer
        self._presence = presence
        self._tickets = tickets
        self._relay = relay
        self._endings = endings
        self._host_grace_seconds = host_grace_seconds
        self._inactivity_seconds = inactivity_seconds
        self._rooms: dict[str, LiveRoom] = {}
        self._subscriptions: set[asyncio.Task[None]] = set()
        self._is_draining = False
        metrics.ROOMS.set_function(lambda: len(self._rooms))
        metrics.SOCKETS.set_function(lambda: sum(len(room.room.sockets) for room in self.rooms))

    @property
    def rooms(self) -> Iterable[LiveRoom]:
        """Every room of this replica."""
        return list(self._rooms.values())

    def room(self, session_id: str) -> LiveRoom | None:
        """The room of a session, if this replica has one."""
        return self._rooms.get(session_id)

    async def admit(self, request: AdmitRequest, _: Call) -> AdmitResponse:
        """Redeems a ticket. Raises ApiError as documented for the handshake."""
        ticket = await self._tickets.redeem(request.ticket)
        if request.session_id and request.session_id != ticket.session_id:
            raise unauthorized()
        if ticket.principal.expires_at <= time.time():
            raise unauthorized()
        if request.diagram_id != ticket.diagram_id or request.threat_model_id not in ("", ticket.threat_model_id):
            raise not_found("This diagram has no such collaboration session.")
        session = await self._sequencer.get_session(ticket.threat_model_id, ticket.diagram_id, ticket.principal)
        if session.session_id != ticket.session_id:
            raise not_found("The collaboration session has ended.")
        socket_id = uuid4()
        await self._reserve(session.session_id, ticket.principal, socket_id)
        return AdmitResponse(principal=ticket.principal, session=session, socket_id=socket_id)

    async def _reserve(self, session_id: str, principal: Principal, socket_id: str) -> None:
        """Finds a place for a socket. Dead sockets of the same user, left by a sleeping machine, make way."""
        deadline = time.monotonic() + PROBE_SECONDS
        is_probing = False
        while True:
            try:
                return await self._presence.reserve(session_id, principal, socket_id)
            except ApiError as error:
                if error.code != TOO_MANY_CONNECTIONS or time.monotonic() > deadline:
                    raise
            if not is_probing:
                is_probing = True
                with suppress(RedisError, OSError):
                    await self._relay.broadcast(RelayFrame(probe_user=ProbeUser(user_id=principal.user_id)))
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)

    def broadcast(self, frame: RelayFrame) -> None:
        """A frame to every replica."""
        if frame.HasField("probe_user"):
            for room in self.rooms:
                room.room.probe(frame.probe_user.user_id)
                room.apply()

    async def attach(self, requests: AsyncIterator[GatewayFrames], _: Call) -> AsyncIterator[RoomFrames]:
        """One gateway's stream for one session."""
        first = await anext(requests, None)
        if first is None or not first.frames or not first.frames[0].HasField("open"):
            raise invalid_request("The first frame of a stream is Open.")
        if self._is_draining:
            raise unavailable("This replica is shutting down.")
        opened = first.frames[0].open
        room = self._room(opened.session)
        link = uuid4()
        stream = room.open_stream(link)
        delivered = opened.delivered_vector if opened.HasField("delivered_vector") else None
        room.room.attach(link, opened.gateway_id, delivered, time.time())
        room.apply()
        for frame in first.frames[1:]:
            _feed(room, link, frame)
        room.apply()
        reader = asyncio.create_task(self._read(requests, room, link, stream))
        try:
            while frames := await stream.next_batch():
                yield RoomFrames(frames=frames)
        finally:
            reader.cancel()
            room.close_stream(link)

    async def _read(self, requests: AsyncIterator[GatewayFrames], room: LiveRoom, link: str, stream: Stream) -> None:
        """Feeds a gateway's frames to the room; ends the stream when there will be no more."""
        try:
            async for message in requests:
                try:
                    for frame in message.frames:
                        _feed(room, link, frame)
                    room.apply()
                except Exception as error:
                    room.fail(error)
        except Exception:
            logger.exception("stream failed", extra={"session_id": room.session_id})
        finally:
            stream.end()

    def _room(self, session: DiagramSession) -> LiveRoom:
        live = self._rooms.get(session.session_id)
        if live is None:
            room = Room(
                session,
                time.time(),
                host_grace_seconds=self._host_grace_seconds,
                inactivity_seconds=self._inactivity_seconds,
            )
            live = LiveRoom(room, self._sequencer, self._presence, self._relay, self._endings, self._finished)
            self._rooms[session.session_id] = live
            self._run(self._relay.subscribe(session.session_id))
        return live

    def _finished(self, room: LiveRoom) -> None:
        if self._rooms.get(room.session_id) is room:
            del self._rooms[room.session_id]
            self._run(self._relay.unsubscribe(room.session_id))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._subscriptions.add(task)
        task.add_done_callback(self._subscriptions.discard)

    def relayed(self, session_id: str, frame: RelayFrame) -> None:
        """A frame of another replica."""
        if room := self._rooms.get(session_id):
            room.receive(frame)

    def subscribed(self, session_id: str) -> None:
        """From now on frames of the session arrive; what was missed is read."""
        if room := self._rooms.get(session_id):
            room.poll()
            room.refresh_presence()

    def announce_end(self, session_id: str, reason: str) -> None:
        """Tells every socket on every replica that a session was closed."""
        if room := self._rooms.get(session_id):
            room.end(reason)
        else:
            self._relay.publish(session_id, RelayFrame(session_ended=SessionEnded(reason=reason)))

    def drain(self) -> None:
        """Sends every gateway to another replica and takes no new streams.

        Commits under way need not be waited for: what a gateway does not know to be settled, it
        repeats elsewhere.
        """
        self._is_draining = True
        for room in self.rooms:
            room.end_streams()

    def stop(self) -> None:
        """Ends the work of every room."""
        for task in self._subscriptions:
            task.cancel()
        for room in self.rooms:
            room.stop()


def _feed(live: LiveRoom, link: str, frame: GatewayFrame) -> None:
    now = time.time()
    match frame.WhichOneof("frame"):
        case "message":
            message = frame.message
            live.room.message(link, message.socket_id, message.number, message.text, now, refusal=message.refusal)
        case "join":
            live.room.join(link, frame.join.socket_id, frame.join.principal, now, is_rejoin=frame.join.rejoin)
        case "leave":
            live.room.leave(link, frame.leave.socket_id, frame.leave.number, now)
        case "resync":
            live.room.resync(frame.resync.socket_id)
        case "settled":
            live.room.settled(link, frame.settled.ending_id)
