"""Refuses verbs that nothing here uses. RFC 9110 section 9.1."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.http_methods import ALLOW, METHODS
from services.shared.errors import ApiError


class MethodGate:
    """405 for TRACE, CONNECT and inventions. A known verb on the wrong path is refused after the token."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if exchange_of(scope).method not in METHODS:
            raise ApiError(405, "method_not_allowed", "This method is not supported.", headers={"Allow": ALLOW})
        await self._app(scope, receive, send)
