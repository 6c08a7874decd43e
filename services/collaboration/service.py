"""One collaboration replica, put together."""

import grpc
import redis.asyncio

from services.collaboration.endings import Endings
from services.collaboration.presence import Presence
from services.collaboration.relay import Relay
from services.collaboration.rooms_service import RoomsService
from services.collaboration.sequencer_client import SequencerClient
from services.collaboration.sessions_service import SessionsService
from services.collaboration.sweeper import Sweeper
from services.collaboration.tickets import Tickets
from services.shared import rpc
from services.shared.settings import Settings
from services.shared.uuids import uuid4
from tmi.collaboration.v1 import rooms_pb2, sessions_pb2
from tmi.collaboration.v1.relay_pb2 import RelayFrame

_ROOMS = rooms_pb2.DESCRIPTOR.services_by_name["Rooms"]
_SESSIONS = sessions_pb2.DESCRIPTOR.services_by_name["Sessions"]


class CollaborationService:
    """Sessions, rooms and the work between replicas. Use inside a running event loop."""

    def __init__(self, settings: Settings, threat_model_channel: grpc.aio.Channel, client: redis.asyncio.Redis) -> None:
        replica_id = uuid4()
        sequencer = SequencerClient(threat_model_channel)
        presence = Presence(client, replica_id)
        tickets = Tickets(client)
        self.relay = Relay(client, replica_id, self._relayed, self._subscribed, self._broadcast)
        endings = Endings(client, self.relay)
        self.rooms = RoomsService(
            sequencer,
            presence,
            tickets,
            self.relay,
            endings,
            host_grace_seconds=settings.host_grace_seconds,
            inactivity_seconds=settings.websocket_inactivity_timeout_seconds,
        )
        self.sessions = SessionsService(sequencer, presence, tickets, endings, self.rooms)
        self.sweeper = Sweeper(self.rooms, sequencer, self.relay, settings.websocket_inactivity_timeout_seconds)

    def _relayed(self, session_id: str, frame: RelayFrame) -> None:
        self.rooms.relayed(session_id, frame)

    def _subscribed(self, session_id: str) -> None:
        self.rooms.subscribed(session_id)

    def _broadcast(self, frame: RelayFrame) -> None:
        self.rooms.broadcast(frame)

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        """Binds both services to a server; answers their full names."""
        rpc.add_async_service(server, _ROOMS, {"Admit": self.rooms.admit, "Attach": self.rooms.attach})
        rpc.add_async_service(
            server,
            _SESSIONS,
            {
                "GetDiagramSession": self.sessions.get_diagram_session,
                "JoinDiagramSession": self.sessions.join_diagram_session,
                "EndDiagramSession": self.sessions.end_diagram_session,
                "ListMySessions": self.sessions.list_my_sessions,
                "IssueTicket": self.sessions.issue_ticket,
            },
        )
        return [_ROOMS.full_name, _SESSIONS.full_name]

    def start(self) -> None:
        """Begins the work between replicas and by the clock."""
        self.relay.start()
        self.sweeper.start()

    async def stop(self) -> None:
        """Ends all of it."""
        await self.sweeper.stop()
        self.rooms.stop()
        await self.relay.stop()
