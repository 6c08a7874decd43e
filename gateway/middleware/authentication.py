"""Who calls: the access token of the Authorization header (RFC 6750) or of the session cookie."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import Exchange, exchange_of
from gateway.readiness import READINESS_PATH
from gateway.routes import PUBLIC_PREFIXES
from gateway.tokens import TokenVerifier, invalid_token
from services.shared.errors import unauthorized

ACCESS_COOKIE = "tmi_access_token"


class Authentication:
    """Demands a valid token where the operation is not public, and notes it in the exchange."""

    def __init__(self, app: ASGIApp, verifier: TokenVerifier) -> None:
        self._app = app
        self._verifier = verifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        await self.identify(exchange_of(scope))
        await self._app(scope, receive, send)

    async def identify(self, exchange: Exchange) -> None:
        """Notes the caller, where the operation is not public. Raises ApiError 401 or 503."""
        if not _is_public(exchange):
            exchange.token = await self._verifier.verify(_token(exchange))
        elif exchange.path == READINESS_PATH:
            self._verifier.require()


def _is_public(exchange: Exchange) -> bool:
    if exchange.operation is not None:
        return exchange.operation.public
    if exchange.route is not None:
        return exchange.route.public
    return exchange.path.startswith(PUBLIC_PREFIXES)


def _token(exchange: Exchange) -> str:
    """The token of the request. A header that is there but malformed never falls back to the cookie."""
    header = exchange.header(b"authorization")
    if header is None:
        token = exchange.cookie(ACCESS_COOKIE)
        if token is None:
            raise unauthorized()
        return token
    parts = header.split(" ")
    if len(parts) != 2 or parts[0].lower() != "bearer" or not parts[1]:
        raise invalid_token()
    return parts[1]
