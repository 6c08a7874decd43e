"""Turns what the stages behind it raise into answers."""

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.responses import ClientDisconnected, respond_error
from services.shared import metrics
from services.shared.errors import ApiError

logger = logging.getLogger(__name__)


class Recovery:
    """An ApiError is answered as it says; anything else is logged and answered as a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        try:
            await self._app(scope, receive, send)
        except ClientDisconnected:
            return
        except ApiError as error:
            if exchange.response_started:
                # The server closes a connection whose answer is incomplete, which is how the client learns of it.
                logger.warning("answer broken off", extra={"code": error.code})
                return
            await respond_error(exchange, send, error)
        except Exception as error:
            metrics.ERRORS.labels("gateway").inc()
            logger.error("unexpected error", exc_info=error)
            if exchange.response_started:
                raise
            await respond_error(exchange, send, ApiError(500, "server_error", "An internal error occurred."))
