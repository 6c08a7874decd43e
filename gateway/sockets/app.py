"""The gateway's WebSocket side as an ASGI application."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

import grpc
from starlette.types import Receive, Scope, Send

from gateway.sockets.admission import SocketRequest, deny, socket_request
from gateway.sockets.attachment import Attachment
from gateway.sockets.connection import Connection
from gateway.sockets.protocol import frame_writer, prober
from services.shared.errors import ApiError, from_rpc_error, unauthorized
from services.shared.principal import REQUEST_ID_KEY
from services.shared.settings import Settings
from services.shared.uuids import uuid4
from tmi.auth.v1.directory_pb2 import Revocation
from tmi.collaboration.v1.rooms_pb2 import AdmitRequest, AdmitResponse
from tmi.collaboration.v1.rooms_pb2_grpc import RoomsStub
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import DiagramSession

logger = logging.getLogger(__name__)

ADMIT_SECONDS = 10.0


class Revocations(Protocol):
    """What is known of access tokens that ended before their time."""

    def require(self) -> None:
        """Raises ApiError 503 while revocations are not known."""

    def subscribe(self, callback: Callable[[Revocation], None]) -> Callable[[], None]:
        """Calls back with every new revocation; the result unsubscribes."""

    def is_revoked(self, principal: Principal) -> bool:
        """True when the principal's token, login session or user was revoked."""


class SocketApp:
    """Serves `websocket` scopes: admission, then a connection that shares its session's attachment."""

    def __init__(self, settings: Settings, collaboration_channel: grpc.aio.Channel, revocations: Revocations) -> None:
        self._settings = settings
        self._rooms = RoomsStub(collaboration_channel)
        self._revocations = revocations
        self._gateway_id = uuid4()
        self._attachments: dict[str, Attachment] = {}
        self._connections: set[Connection] = set()
        self._unsubscribe = revocations.subscribe(self._revoked)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the handshake and serves the socket to its end."""
        event = await receive()
        if event["type"] != "websocket.connect":
            return
        request_id = scope.get("state", {}).get("request_id") or uuid4()
        try:
            try:
                request = socket_request(scope, self._settings.allowed_socket_origins)
            finally:
                # The ASGI server logs the path with its query string: the ticket must not be in it.
                scope["query_string"] = b""
            self._revocations.require()
            admitted = await self._admit(request, request_id)
        except ApiError as error:
            await deny(send, error, request_id)
            return
        await send({"type": "websocket.accept"})
        connection = Connection(
            admitted.principal,
            receive,
            send,
            write_frame=frame_writer(scope),
            probe=prober(scope),
            max_message_bytes=self._settings.websocket_max_message_bytes,
        )
        self._connections.add(connection)
        try:
            await connection.run(self._attachment(admitted.session), admitted.socket_id)
        finally:
            self._connections.discard(connection)

    async def _admit(self, request: SocketRequest, request_id: str) -> AdmitResponse:
        message = AdmitRequest(
            threat_model_id=request.threat_model_id,
            diagram_id=request.diagram_id,
            session_id=request.session_id,
            ticket=request.ticket,
        )
        try:
            admitted: AdmitResponse = await self._rooms.Admit(
                message, timeout=ADMIT_SECONDS, metadata=((REQUEST_ID_KEY, request_id),)
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        if admitted.principal.expires_at <= time.time() or self._revocations.is_revoked(admitted.principal):
            raise unauthorized()
        return admitted

    def _attachment(self, session: DiagramSession) -> Attachment:
        attachment = self._attachments.get(session.session_id)
        if attachment is None:
            attachment = Attachment(
                self._rooms, session, self._gateway_id, self._settings.websocket_queue_messages, self._ended
            )
            self._attachments[session.session_id] = attachment
        return attachment

    def _ended(self, attachment: Attachment) -> None:
        if self._attachments.get(attachment.session_id) is attachment:
            del self._attachments[attachment.session_id]

    def _revoked(self, _: Revocation) -> None:
        for connection in self._connections:
            if self._revocations.is_revoked(connection.principal):
                connection.revoke("token revoked")

    async def close(self, timeout_seconds: float = 5.0) -> None:
        """Ends every attachment after what departed sockets sent is settled, or after the timeout."""
        self._unsubscribe()
        await asyncio.gather(*(attachment.close(timeout_seconds) for attachment in [*self._attachments.values()]))
