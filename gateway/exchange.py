"""One HTTP request on its way through the gateway.

The middlewares are independent of each other; what one learns and a later one needs is here, so that
headers are decoded once.
"""

from typing import Any

from starlette.types import Scope

from gateway.routes import Operation, Route
from gateway.tokens import VerifiedToken
from services.shared.errors import invalid_input

EXCHANGE_KEY = "tmi.exchange"
_COOKIE = b"cookie"


class Exchange:
    """What is known about a request. Header names are lower-case bytes; repeated headers are joined by commas."""

    __slots__ = (
        "body",
        "client_ip",
        "headers",
        "limit_headers",
        "method",
        "operation",
        "path",
        "path_values",
        "request_id",
        "response_started",
        "route",
        "scope",
        "token",
    )

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        raw = scope["headers"]
        headers: dict[bytes, bytes] = dict(raw)
        self.headers = headers if len(headers) == len(raw) else _joined(raw)
        self.request_id = ""
        self.client_ip = ""
        self.route: Route | None = None
        self.operation: Operation | None = None
        self.path_values: tuple[Any, ...] = ()
        self.body = b""
        self.token: VerifiedToken | None = None
        self.limit_headers: list[tuple[bytes, bytes]] = []
        self.response_started = False

    @property
    def query_string(self) -> bytes:
        """What follows the question mark, percent-encoded."""
        query_string: bytes = self.scope["query_string"]
        return query_string

    def header(self, name: bytes) -> str | None:
        """The value as text (ISO 8859-1, RFC 9110 section 5.5), None when absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def cookie(self, name: str) -> str | None:
        """The value of the first cookie of that name (RFC 6265 section 5.4), None when absent or empty."""
        prefix = name + "="
        for pair in self.headers.get(_COOKIE, b"").decode("latin-1").split(";"):
            pair = pair.strip()
            if pair.startswith(prefix):
                return pair[len(prefix) :].strip('"') or None
        return None


def exchange_of(scope: Scope) -> Exchange:
    """The exchange of a request inside the gateway."""
    exchange: Exchange = scope[EXCHANGE_KEY]
    return exchange


def media_type(header: bytes) -> str:
    """Type and subtype of a Content-Type value, lower-case, without parameters. Raises ApiError 400."""
    try:
        return header.split(b";", 1)[0].strip().lower().decode("ascii")
    except UnicodeDecodeError as error:
        raise invalid_input("The Content-Type header is not ASCII.") from error


def _joined(raw: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in headers:
            headers[name] += (b"; " if name == _COOKIE else b", ") + value
        else:
            headers[name] = value
    return headers
