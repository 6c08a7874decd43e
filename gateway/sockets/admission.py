"""Who may open a socket where: everything that is answered in HTTP before the upgrade."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.types import Scope, Send

from gateway.parameters import uuid
from gateway.responses import error_answer
from gateway.security_headers import mark
from services.shared.errors import ApiError, forbidden, not_found, unauthorized

_SEGMENT = r"([^/]*)"
_MODEL_PATH = re.compile(rf"/threat_models/{_SEGMENT}/diagrams/{_SEGMENT}/ws")
_DIAGRAM_PATH = re.compile(rf"/ws/diagrams/{_SEGMENT}")


@dataclass(frozen=True, slots=True)
class SocketRequest:
    """A request for a socket. threat_model_id and session_id are empty when not named."""

    threat_model_id: str
    diagram_id: str
    session_id: str
    ticket: str


def socket_request(scope: Scope, allowed_origins: list[str]) -> SocketRequest:
    """Reads a WebSocket handshake (RFC 6455 section 4.2).

    Raises ApiError: 404 for a path without sockets, 400 for a malformed id, 403 for a foreign
    origin, 401 without a ticket.
    """
    path = scope["path"]
    if match := _MODEL_PATH.fullmatch(path):
        threat_model_id, diagram_id = uuid("threat_model_id", match[1]), uuid("diagram_id", match[2])
    elif match := _DIAGRAM_PATH.fullmatch(path):
        threat_model_id, diagram_id = "", uuid("diagram_id", match[1])
    else:
        raise not_found("There is no WebSocket at this path.")
    check_origin(scope, allowed_origins)
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    ticket = query.get("ticket", [""])[0]
    if not ticket:
        raise unauthorized()
    session_id = query.get("session_id", [""])[0]
    return SocketRequest(threat_model_id, diagram_id, uuid("session_id", session_id) if session_id else "", ticket)


def check_origin(scope: Scope, allowed: list[str]) -> None:
    """Raises ApiError 403 unless Origin is absent, one of `allowed`, or this host itself.

    Compared exactly, as RFC 6454 section 6.2 serializes origins.
    """
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin or origin in allowed:
        return
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if not host or origin not in (f"http://{host}", f"https://{host}"):
        raise forbidden("This origin may not open a WebSocket.")


async def deny(send: Send, error: ApiError, request_id: str) -> None:
    """Answers the handshake with an HTTP error (ASGI extension websocket.http.response)."""
    headers, body = error_answer(error, request_id)
    mark(headers)
    headers.append((b"x-request-id", request_id.encode()))
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
