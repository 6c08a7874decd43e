"""Marks every answer with what browsers have to know."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.security_headers import mark


class SecurityHeaders:
    """Marks every answer."""

    def __init__(self, app: ASGIApp, *, tls: bool) -> None:
        self._app = app
        self._tls = tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                mark(message["headers"], tls=self._tls)
            await send(message)

        await self._app(scope, receive, send_with_headers)
