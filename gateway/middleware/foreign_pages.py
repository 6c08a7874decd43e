"""Refuses what a foreign page makes a browser do with its user's cookies (cross-site request forgery)."""

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import Exchange, exchange_of
from gateway.middleware.authentication import ACCESS_COOKIE
from gateway.public_url import PublicUrl
from gateway.routes import Operation
from services.shared.errors import forbidden

_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_FOREIGN_SITES = ("same-site", "cross-site")


class ForeignPageGate:
    """403 for an unsafe request (RFC 9110 section 9.2.1) whose credential is a cookie and whose page is foreign.

    `Origin`, when there, decides: it must be this server's own or on the CORS list. Without it
    `Sec-Fetch-Site` does, and without both it was no browser that any of this could protect. A page
    cannot give the Authorization header to a request that its server did not allow it.
    """

    def __init__(self, app: ASGIApp, public_url: PublicUrl, allowed_origins: Iterable[str]) -> None:
        self._app = app
        self._public_url = public_url
        self._allowed = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        self.check(exchange_of(scope))
        await self._app(scope, receive, send)

    def check(self, exchange: Exchange) -> None:
        """Raises ApiError 403."""
        operation = exchange.operation
        if exchange.method in _SAFE or operation is None or b"cookie" not in exchange.headers:
            return
        if b"authorization" in exchange.headers or not any(map(exchange.cookie, _credentials(operation))):
            return
        origin = exchange.header(b"origin")
        if origin is not None:
            is_foreign = origin not in self._allowed and origin != self._public_url.origin_of(exchange)
        else:
            is_foreign = (exchange.header(b"sec-fetch-site") or "").strip().lower() in _FOREIGN_SITES
        if is_foreign:
            raise forbidden("A page of this origin may not do this with the cookies of its user.")


def _credentials(operation: Operation) -> Iterable[str]:
    """The cookies from which the operation learns who calls."""
    if not operation.public:
        yield ACCESS_COOKIE
    for _, parameter in operation.declaration.parameters:
        if parameter.cookie:
            yield parameter.cookie
