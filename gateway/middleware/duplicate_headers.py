"""Refuses requests that say the same thing twice, which two servers in a row could read differently."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from services.shared.errors import ApiError

_SINGLE = (b"authorization", b"host", b"content-type", b"content-length")


class DuplicateHeaderGate:
    """400 `duplicate_header`. RFC 9110 section 5.3 lets no recipient combine these."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        raw = scope["headers"]
        if len(raw) != len(exchange_of(scope).headers):
            names = [name for name, _ in raw]
            for name in _SINGLE:
                if names.count(name) > 1:
                    raise ApiError(400, "duplicate_header", f"The header {name.decode()} may be given only once.")
        await self._app(scope, receive, send)
