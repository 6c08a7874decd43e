"""Cross-origin requests (WHATWG Fetch, CORS protocol) from the origins that the operator named."""

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.http_methods import ALLOW
from gateway.responses import RawHeaders, respond

_ALLOW_HEADERS = (
    "Content-Type, Content-Length, Accept-Encoding, Authorization, Accept, Origin, Cache-Control, Pragma, "
    "X-Requested-With, If-Match, If-None-Match, X-Request-ID"
)
_EXPOSE_HEADERS = (
    "ETag, Location, Retry-After, X-Request-ID, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    "WWW-Authenticate, X-Session-Ended"
)
_PREFLIGHT: RawHeaders = [
    (b"access-control-allow-methods", ALLOW.encode()),
    (b"access-control-allow-headers", _ALLOW_HEADERS.encode()),
    (b"access-control-max-age", b"600"),
]
_VARY = (b"vary", b"Origin")


class Cors:
    """Answers OPTIONS and marks answers for allowed origins, which are compared exactly."""

    def __init__(self, app: ASGIApp, allowed_origins: Iterable[str]) -> None:
        self._app = app
        self._allowed: dict[bytes, RawHeaders] = {}
        for origin in allowed_origins:
            raw = origin.encode()
            self._allowed[raw] = [
                (b"access-control-allow-origin", raw),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", _EXPOSE_HEADERS.encode()),
                _VARY,
            ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        origin = exchange.headers.get(b"origin")
        allowed = None if origin is None else self._allowed.get(origin)
        marks = allowed or [_VARY]

        async def send_with_marks(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += marks
            await send(message)

        if exchange.method == "OPTIONS":
            await respond(exchange, send_with_marks, 204, list(_PREFLIGHT) if allowed else [])
        else:
            await self._app(scope, receive, send_with_marks)
