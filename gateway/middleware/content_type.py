"""Refuses bodies of a kind that the operation does not read. RFC 9110 section 15.5.16."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import Exchange, exchange_of, media_type
from services.shared.errors import ApiError, invalid_request


class ContentTypeGate:
    """400 for a body without Content-Type, 415 for a wrong one, where the operation has a body at all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        if exchange.operation is not None and exchange.operation.consumes:
            _check(exchange, exchange.operation.consumes)
        await self._app(scope, receive, send)


def _check(exchange: Exchange, consumes: tuple[str, ...]) -> None:
    header = exchange.headers.get(b"content-type")
    if header is None:
        if exchange.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in exchange.headers:
            raise invalid_request("A body needs a Content-Type header.")
        return
    if media_type(header) not in consumes:
        accepted = ", ".join(consumes)
        raise ApiError(
            415, "unsupported_media_type", f"The body must be {' or '.join(consumes)}.", headers={"Accept": accepted}
        )
