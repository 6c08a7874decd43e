"""Finds the route and the operation. What is missing is refused later, by stages that may come first."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.routes import Routes


class Routing:
    """Notes route, operation and raw path parameters in the exchange."""

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        raw_path = scope.get("raw_path") or scope["path"].encode()
        found = self._routes.find(raw_path)
        if found is not None:
            exchange.route, exchange.path_values = found
            exchange.operation = exchange.route.operations.get(exchange.method)
        await self._app(scope, receive, send)
