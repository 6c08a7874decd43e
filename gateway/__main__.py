"""`python -m gateway`: serves HTTP and WebSockets until SIGTERM."""

import asyncio
import logging
import signal
import socket
import sys
from functools import partial
from math import ceil
from typing import cast

import uvicorn

from gateway.app import create_app
from gateway.connection_bounds import Bounds
from gateway.http_protocol import BoundedHttpProtocol
from gateway.server import Server
from gateway.sockets.protocol import RoomWebSocketProtocol
from services.shared import garbage, metrics
from services.shared.settings import Settings
from services.shared.startup import CannotStart, run

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep idle connections, so that they and not we end one (a race otherwise)."""


def main() -> int:
    """Runs the server and returns the exit code."""
    return run("gateway", _serve)


def _serve(configuration: Settings) -> None:
    """Serves until SIGTERM or SIGINT. Raises CannotStart."""
    try:
        bounds = Bounds.of(configuration)
    except ValueError as error:
        raise CannotStart(f"the setting TMI_TRUSTED_PROXIES is wrong: {error}. Correct it and start again.") from error
    try:
        listener = _listen(configuration)
    except OSError as error:
        where = f"{configuration.server_interface}:{configuration.server_port}"
        raise CannotStart(
            f"cannot listen on {where} ({error.strerror}). Stop what uses it, or set TMI_SERVER_PORT to another port."
        ) from error
    if configuration.build_mode == "production" and not configuration.public_url:
        logger.warning("TMI_PUBLIC_URL is not set", extra={"assumed": configuration.base_url})
    application = create_app(configuration)
    metrics.serve(configuration.server_interface, configuration.metrics_port)
    server = Server(
        uvicorn.Config(
            application,
            loop="uvloop",
            http=cast(type[asyncio.Protocol], partial(BoundedHttpProtocol, bounds=bounds)),
            ws=RoomWebSocketProtocol,
            ws_max_size=configuration.websocket_close_above_bytes,
            ws_per_message_deflate=False,
            lifespan="on",
            log_config=None,
            access_log=False,
            # Forwarded headers are judged in gateway.trusted_proxies.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=ceil(configuration.drain_seconds),
        ),
        announce=application.readiness.stop,
        delay_seconds=configuration.shutdown_delay_seconds,
    )
    garbage.settle()
    # uvicorn raises the signal that stopped it again when it has drained: that is a good end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


def _listen(configuration: Settings) -> socket.socket:
    """The listening socket. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in configuration.server_interface else socket.AF_INET
    return socket.create_server(
        (configuration.server_interface, configuration.server_port), family=family, backlog=2048
    )


if __name__ == "__main__":
    sys.exit(main())
