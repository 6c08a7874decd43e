"""The HTTP side of a WebSocket handshake (RFC 6455 section 4.2) with errors like everybody's."""

import logging

from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.server import ServerProtocol

from gateway.responses import error_answer
from gateway.security_headers import mark
from services.shared.errors import ApiError
from services.shared.uuids import uuid4

logger = logging.getLogger("gateway.access")

_CODES = {
    405: "method_not_allowed",
    414: "uri_too_long",
    426: "upgrade_required",
    431: "request_header_fields_too_large",
}


class Handshake(ServerProtocol):
    """Refuses a handshake that is malformed itself with the JSON error body."""

    def reject(self, status: int, text: str) -> Response:
        """The answer. text: what the parser found, and advice in further lines, which is left out."""
        error = ApiError(int(status), _CODES.get(int(status), "invalid_request"), text.partition("\n")[0])
        request_id = uuid4()
        logger.info("socket refused", extra={"status": error.status, "code": error.code, "request_id": request_id})
        headers, body = error_answer(error, request_id)
        mark(headers)
        response = super().reject(status, body.decode())
        response.headers = Headers(
            [
                *((name, value) for name, value in response.headers.raw_items() if name != "Content-Type"),
                *((name.decode(), value.decode("latin-1")) for name, value in headers),
                ("x-request-id", request_id),
            ]
        )
        return response
