"""Whether this process runs. Asks nobody: a restart would not heal what it depends on."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.responses import respond_json
from services.shared.errors import ApiError

PATH = "/livez"
_BODY = b'{"status":"ok"}'


class Liveness:
    """Answers `GET /livez` with 200, before every gate."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["path"] != PATH:
            await self._app(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await respond_json(exchange_of(scope), send, 200, _BODY)
        else:
            raise ApiError(
                405, "method_not_allowed", "Liveness can only be read.", headers={"Allow": "GET, HEAD, OPTIONS"}
            )
