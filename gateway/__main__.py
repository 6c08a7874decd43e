"""`python -m gateway`: serves HTTP and WebSockets until SIGTERM."""

import gc
import signal
import socket
import sys
from math import ceil

import uvicorn
from pydantic import ValidationError

from gateway.app import create_app
from services.shared import log, metrics
from services.shared.settings import Settings, settings

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep idle connections, so that they and not we end one (a race otherwise)."""

COLLECTOR_THRESHOLDS = (10_000, 20, 50)
"""Of the cyclic garbage collector, which by default starts every few requests and finds next to nothing."""


def main() -> int:
    """Runs the server. A failure to start is one line on stderr that says what to do."""
    try:
        configuration = settings()
        application = create_app(configuration)
    except ValidationError as error:
        problem = error.errors()[0]
        name = "TMI_" + "_".join(str(part) for part in problem["loc"]).upper()
        return _fail(f"the setting {name} is wrong: {problem['msg']}. Correct it and start again.")
    except ValueError as error:
        return _fail(f"the setting TMI_TRUSTED_PROXIES is wrong: {error}. Correct it and start again.")
    log.configure("gateway", configuration.log_level)
    try:
        listener = _listen(configuration)
    except OSError as error:
        where = f"{configuration.server_interface}:{configuration.server_port}"
        return _fail(
            f"cannot listen on {where} ({error.strerror}). Stop what uses it, or set TMI_SERVER_PORT to another port."
        )
    try:
        metrics.serve(configuration.server_interface, configuration.metrics_port)
    except OSError as error:
        return _fail(
            f"cannot serve metrics on port {configuration.metrics_port} ({error.strerror}). "
            "Set TMI_METRICS_PORT to another port, or to 0 for none."
        )
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=configuration.websocket_max_message_bytes,
            ws_per_message_deflate=False,
            lifespan="on",
            log_config=None,
            access_log=False,
            # Forwarded headers are judged in gateway.trusted_proxies.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=ceil(configuration.drain_seconds),
        )
    )
    # What exists by now stays for good: the collector need not walk it again, nor look at every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    # uvicorn raises the signal that stopped it again when it has drained: that is a good end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _listen(configuration: Settings) -> socket.socket:
    """The listening socket. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in configuration.server_interface else socket.AF_INET
    return socket.create_server(
        (configuration.server_interface, configuration.server_port), family=family, backlog=2048
    )


def _fail(reason: str) -> int:
    sys.stderr.write(f"gateway: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
