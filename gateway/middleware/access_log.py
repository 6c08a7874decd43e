"""One log line and one measurement a request. Neither ever holds a query, a cookie or a token."""

import logging
import time

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.exchange import exchange_of
from gateway.http_methods import METHODS
from gateway.trusted_proxies import TrustedProxies

logger = logging.getLogger("gateway.access")

HTTP_SECONDS = Histogram(
    "tmi_http_request_duration_seconds",
    "Time to answer an HTTP request.",
    ["method", "route", "status"],
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
UNMATCHED = "unmatched"
CLIENT_CLOSED = 499
"""Logged as the status of a request whose client went away before the answer; never sent."""


class AccessLog:
    """Logs method, route template, status, milliseconds and client address of every request."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies
        self._observers: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        started = time.perf_counter()
        exchange = exchange_of(scope)
        exchange.client_ip = self._proxies.client_ip(exchange)
        status = CLIENT_CLOSED

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            seconds = time.perf_counter() - started
            route = exchange.route.template if exchange.route else UNMATCHED
            self._observer(exchange.method, route, status).observe(seconds)
            logger.info(
                "request",
                extra={
                    "method": exchange.method,
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                    "client": exchange.client_ip,
                },
            )

    def _observer(self, method: str, route: str, status: int) -> Histogram:
        key = (method, route, status)
        observer = self._observers.get(key)
        if observer is None:
            # An unknown verb is whatever the client likes: it must not become a label.
            label = method if method in METHODS else "other"
            observer = HTTP_SECONDS.labels(label, route, str(status))
            if label == method:
                self._observers[key] = observer
        return observer
