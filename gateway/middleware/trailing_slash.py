"""Sends clients that add a slash to the path without it."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.http_methods import READS
from gateway.public_url import PublicUrl
from gateway.responses import respond
from gateway.routes import Routes


class TrailingSlash:
    """301 for GET and HEAD, 308 otherwise (RFC 9110 section 15.4), when the path without slash is a route."""

    def __init__(self, app: ASGIApp, routes: Routes, public_url: PublicUrl) -> None:
        self._app = app
        self._routes = routes
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if not scope["path"].endswith("/") or scope["path"] == "/":
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        raw_path: bytes = (scope.get("raw_path") or scope["path"].encode()).rstrip(b"/")
        if not raw_path or self._routes.find(raw_path) is None:
            await self._app(scope, receive, send)
            return
        location = self._public_url.of(exchange).encode() + raw_path
        if scope["query_string"]:
            location += b"?" + scope["query_string"]
        await respond(exchange, send, 301 if exchange.method in READS else 308, [(b"location", location)])
