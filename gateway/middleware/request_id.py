"""Names every request, so that its log lines can be found in every service it touched."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.exchange import exchange_of
from services.shared import log
from services.shared.uuids import uuid4

_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def name_request(given: bytes | None) -> str:
    """The id of this request: the client's when it is well formed, else a new one. Logs carry it from here on."""
    identifier = given.decode() if given and _ACCEPTABLE.fullmatch(given) else uuid4()
    log.request_id.set(identifier)
    return identifier


class RequestId:
    """Takes `X-Request-ID` when it is well formed, else makes one, and answers with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        exchange.request_id = name_request(exchange.headers.get(b"x-request-id"))
        raw = exchange.request_id.encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", raw))
            await send(message)

        await self._app(scope, receive, send_with_id)
