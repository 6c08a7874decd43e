"""tmi.collaboration.v1.Sessions: collaboration sessions over REST. Any replica answers for all."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
from redis.exceptions import RedisError

from services.collaboration.endings import Endings
from services.collaboration.participants import Participant, participants, same_user
from services.collaboration.presence import Presence
from services.collaboration.rooms_service import RoomsService
from services.collaboration.sequencer_client import SequencerClient
from services.collaboration.tickets import Tickets
from services.shared.access import READER
from services.shared.errors import not_found
from services.shared.principal import Call, user_object
from services.shared.rpc import Reply
from tmi.collaboration.v1.relay_pb2 import Ticket
from tmi.collaboration.v1.sessions_pb2 import (
    EndDiagramSessionRequest,
    GetDiagramSessionRequest,
    IssueTicketRequest,
    JoinDiagramSessionRequest,
    ListMySessionsRequest,
)
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import DiagramSession, Role

logger = logging.getLogger(__name__)

ENDED_BY_HOST = "The host has ended the collaboration session."
ENDED_BY_OWNER = "The owner of the threat model has ended the collaboration session."
ENDED_BY_ADMINISTRATOR = "An administrator has ended the collaboration session."
ANNOUNCE_SECONDS = 0.1
"""The host's client should have its answer before its socket is closed."""


class SessionsService:
    """The REST operations."""

    def __init__(
        self,
        sequencer: SequencerClient,
        presence: Presence,
        tickets: Tickets,
        endings: Endings,
        rooms: RoomsService,
    ) -> None:
        self._sequencer = sequencer
        self._presence = presence
        self._tickets = tickets
        self._endings = endings
        self._rooms = rooms

    async def get_diagram_session(self, request: GetDiagramSessionRequest, call: Call) -> Reply:
        """The session of a diagram, 404 without one."""
        session = await self._sequencer.get_session(request.threat_model_id, request.diagram_id, call.caller)
        return await self._session_reply(session, call)

    async def join_diagram_session(self, request: JoinDiagramSessionRequest, call: Call) -> Reply:
        """The session of a diagram, created with the caller as host when there is none."""
        opened = await self._sequencer.open_session(request.threat_model_id, request.diagram_id, call.caller)
        return await self._session_reply(opened.session, call, 201 if opened.created else 200)

    async def end_diagram_session(self, request: EndDiagramSessionRequest, call: Call) -> Reply:
        """Ends the session if the caller may, after everything that was sent before is settled.

        204 also when there is nothing to end, or nothing that the caller may end.
        """
        session = await self._sequencer.get_session(
            request.threat_model_id, request.diagram_id, call.caller, to_end_it=True
        )
        # Administrators end sessions without a role of their own.
        call.require(max(session.role, READER) if call.caller.is_administrator else session.role)
        reason = await self._reason_to_end(session, call.caller, is_explicit=request.end) if session.session_id else ""
        ended = False
        if reason:
            await self._endings.settle(session.session_id, reason)
            ended = await self._sequencer.close_session(session.diagram_id, session.session_id)
            loop = asyncio.get_running_loop()
            loop.call_later(ANNOUNCE_SECONDS, self._rooms.announce_end, session.session_id, reason)
        return Reply(status=204, headers=[("x-session-ended", "true" if ended else "false")])

    async def _reason_to_end(self, session: DiagramSession, caller: Principal, *, is_explicit: bool) -> str:
        """What the participants are told; empty when the caller's DELETE ends nothing.

        Web clients send it when they leave: from participants it means their own end only.
        """
        if same_user(session.host, caller):
            return ENDED_BY_HOST
        if session.role < Role.ROLE_OWNER and not caller.is_administrator:
            return ""
        if not is_explicit:
            try:
                present = await self._presence.snapshot(session.session_id)
            except (RedisError, OSError):
                self._presence.failed()
                return ""
            if any(same_user(socket.principal, caller) for socket in present):
                return ""
        return ENDED_BY_OWNER if session.role >= Role.ROLE_OWNER else ENDED_BY_ADMINISTRATOR

    async def list_my_sessions(self, _: ListMySessionsRequest, call: Call) -> Reply:
        """Sessions on threat models that the caller may read, as a bare array."""
        sessions = await self._sequencer.list_sessions(call.caller)
        present = await self._participants([session.session_id for session in sessions])
        objects = [_session_object(session, present[session.session_id], call) for session in sessions]
        return Reply(orjson.dumps(objects))

    async def issue_ticket(self, request: IssueTicketRequest, call: Call) -> Reply:
        """A ticket for a live session that the caller may read; 404 for any other."""
        sessions = await self._sequencer.list_sessions(call.caller, request.session_id)
        if not sessions:
            raise not_found("There is no such collaboration session.")
        session = sessions[0]
        text = await self._tickets.issue(
            Ticket(
                principal=call.caller,
                threat_model_id=session.threat_model_id,
                diagram_id=session.diagram_id,
                session_id=session.session_id,
            )
        )
        return Reply(orjson.dumps({"ticket": text}), headers=[("cache-control", "no-store")])

    async def _participants(self, session_ids: Sequence[str]) -> Mapping[str, Iterable[Participant]]:
        """Everybody in these sessions; without Redis, those in rooms of this replica."""
        try:
            snapshots = await self._presence.snapshots(session_ids)
        except (RedisError, OSError):
            self._presence.failed()
            rooms = {session_id: self._rooms.room(session_id) for session_id in session_ids}
            return {session_id: room.room.participants() if room else () for session_id, room in rooms.items()}
        return {session_id: participants(sockets) for session_id, sockets in snapshots.items()}

    async def _session_reply(self, session: DiagramSession, call: Call, status: int = 0) -> Reply:
        call.require(session.role)
        present = await self._participants([session.session_id])
        return Reply(orjson.dumps(_session_object(session, present[session.session_id], call)), status=status)


def _session_object(session: DiagramSession, present: Iterable[Participant], call: Call) -> dict[str, Any]:
    """The CollaborationSession object of the contract."""
    return {
        "session_id": session.session_id,
        "host": user_object(session.host),
        "presenter": user_object(session.host),
        "threat_model_id": session.threat_model_id,
        "threat_model_name": session.threat_model_name,
        "diagram_id": session.diagram_id,
        "diagram_name": session.diagram_name,
        "participants": [participant.to_object() for participant in present],
        "websocket_url": websocket_url(call.public_url, session),
    }


def websocket_url(public_url: str, session: DiagramSession) -> str:
    """Absolute URL of the session's socket below the base URL that clients use (http or https)."""
    parts = urlsplit(public_url)
    path = f"{parts.path.rstrip('/')}/threat_models/{session.threat_model_id}/diagrams/{session.diagram_id}/ws"
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, path, f"session_id={session.session_id}", ""))
