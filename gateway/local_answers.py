"""What the gateway answers by itself, before every gate and without asking anybody."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.http_methods import READS
from gateway.readiness import READINESS_PATH, Readiness
from gateway.responses import respond_json
from services.shared.errors import ApiError

LIVENESS_PATH = "/livez"
LIVENESS = b'{"status":"ok"}'
"""Whether this process runs, and nothing else: a restart would not heal what it depends on."""

OPENAPI_PATH = "/openapi.json"


class LocalAnswers:
    """Answers `GET` of fixed JSON by path, and readiness with 503 when this process is about to stop."""

    def __init__(self, app: ASGIApp, answers: Mapping[str, bytes], readiness: Readiness) -> None:
        self._app = app
        self._readiness = readiness
        self._answers = dict(answers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        answer = self._answers.get(scope["path"])
        if scope["path"] == READINESS_PATH:
            self._readiness.require()
        if answer is None:
            await self._app(scope, receive, send)
        elif scope["method"] in READS:
            await respond_json(exchange_of(scope), send, 200, answer)
        else:
            raise ApiError(405, "method_not_allowed", "This can only be read.", headers={"Allow": "GET, HEAD, OPTIONS"})
