"""Applies the rules of `services.shared.unicode_text` to JSON bodies."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.large_bodies import off_loop
from gateway.middleware.body import is_json
from services.shared import unicode_text


class UnicodeGate:
    """400 for characters that are refused; what goes on is in NFC, without what is dropped."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        if is_json(exchange):
            exchange.body = await off_loop(unicode_text.normalised_json, exchange.body)
        await self._app(scope, receive, send)
