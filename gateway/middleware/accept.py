"""Refuses clients that cannot read what the operation answers. RFC 9110 section 12.5.1."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from services.shared.errors import ApiError

_JSON = ("application/json",)
_USUAL = frozenset((b"*/*", b"application/json", b"application/json, text/plain, */*"))


class AcceptGate:
    """406 unless a media range of `Accept` fits a type that the operation produces."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        accept = exchange.headers.get(b"accept")
        if accept and accept not in _USUAL:
            produces = exchange.operation.produces if exchange.operation else _JSON
            if not accepts(accept.decode("latin-1"), produces):
                raise ApiError(406, "not_acceptable", f"This answers {' or '.join(produces)} only.")
        await self._app(scope, receive, send)


def accepts(accept: str, media_types: tuple[str, ...]) -> bool:
    """Whether one of the media types fits a range of the header whose weight is not zero."""
    for element in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in element.split(";"))
        if any(_is_zero_weight(parameter) for parameter in parameters):
            continue
        if media_range == "*/*" or media_range in media_types:
            return True
        if media_range.endswith("/*") and any(kind.startswith(media_range[:-1]) for kind in media_types):
            return True
    return False


def _is_zero_weight(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip() in ("0", "0.", "0.0", "0.00", "0.000")
