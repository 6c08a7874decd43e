"""Applies the rules of `gateway.json_text` to JSON bodies."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import json_text
from gateway.exchange import exchange_of
from gateway.large_bodies import off_loop
from gateway.middleware.body import is_json


class StrictJsonGate:
    """400 for a body that is not JSON or that two parsers could read differently."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        if is_json(exchange):
            await off_loop(json_text.check, exchange.body)
        await self._app(scope, receive, send)
