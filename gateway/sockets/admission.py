"""Who may open a socket where: everything that is answered in HTTP before the upgrade."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs
from uuid import UUID

import orjson
from starlette.types import Scope, Send

from services.shared.errors import ApiError, forbidden, invalid_id, not_found, unauthorized

_UUID_SEGMENT = r"([^/]*)"
_MODEL_PATH = re.compile(rf"/threat_models/{_UUID_SEGMENT}/diagrams/{_UUID_SEGMENT}/ws")
_DIAGRAM_PATH = re.compile(rf"/ws/diagrams/{_UUID_SEGMENT}")


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
        threat_model_id, diagram_id = _uuid(match[1], "threat_model_id"), _uuid(match[2], "diagram_id")
    elif match := _DIAGRAM_PATH.fullmatch(path):
        threat_model_id, diagram_id = "", _uuid(match[1], "diagram_id")
    else:
        raise not_found("There is no WebSocket at this path.")
    check_origin(scope, allowed_origins)
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    ticket = query.get("ticket", [""])[0]
    if not ticket:
        raise unauthorized()
    session_id = query.get("session_id", [""])[0]
    return SocketRequest(threat_model_id, diagram_id, _uuid(session_id, "session_id") if session_id else "", ticket)


def _uuid(text: str, name: str) -> str:
    try:
        return str(UUID(text)) if len(text) == 36 else _malformed(name)
    except ValueError:
        return _malformed(name)


def _malformed(name: str) -> str:
    raise invalid_id(f"{name} is not a UUID.")


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


async def deny(send: Send, error: ApiError) -> None:
    """Answers the handshake with an HTTP error (ASGI extension websocket.http.response)."""
    body: dict[str, object] = {"error": error.code, "error_description": error.message}
    if error.details:
        body["details"] = error.details
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": orjson.dumps(body)})
