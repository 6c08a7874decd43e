"""Refuses identifiers in the path that cannot be identifiers."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.parameters import path_parameter


class PathParameterGate:
    """400 `invalid_id`, before the caller is known, for every verb of the route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        if exchange.path_values:
            if exchange.operation is not None:
                exchange.path_values = exchange.operation.reader.check_path(exchange.path_values)
            else:
                for value in exchange.path_values:
                    path_parameter("An identifier in the path", value)
        await self._app(scope, receive, send)
