"""Sends clients that add a slash to the path without it."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.http_methods import READS
from gateway.responses import respond
from gateway.routes import Routes


class TrailingSlash:
    """301 for GET and HEAD, 308 otherwise (RFC 9110 section 15.4), when the path without slash is a route."""

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        target = raw_path.removesuffix(b"/")
        if target in (raw_path, b"") or self._routes.find(target) is None:
            await self._app(scope, receive, send)
            return
        # Relative to the path that was asked for (RFC 3986 section 5.2.4), whatever host and prefix it has.
        location = b"../" + target.rpartition(b"/")[2]
        if scope["query_string"]:
            location += b"?" + scope["query_string"]
        exchange = exchange_of(scope)
        await respond(exchange, send, 301 if exchange.method in READS else 308, [(b"location", location)])
