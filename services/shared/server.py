"""Starting and stopping a service process.

Both servers answer grpc.health.v1 and reflection, and drain on SIGTERM: health turns NOT_SERVING,
new calls are refused, running ones get `drain_seconds`.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.shared import metrics
from services.shared.rpc import SERVER_OPTIONS
from services.shared.settings import Settings
from services.shared.startup import CannotStart

logger = logging.getLogger(__name__)


class PortTaken(CannotStart):
    """The port to listen on is in use."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} is in use: stop what listens there, or set TMI_GRPC_PORT to another port.")


def address(settings: Settings) -> str:
    """Where this process's gRPC server listens."""
    return f"{settings.grpc_interface}:{settings.grpc_port}"


def run(
    settings: Settings,
    add_services: Callable[[grpc.Server], Sequence[str]],
    before_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serves synchronous services until SIGTERM or SIGINT.

    add_services binds them to the server and returns their full names. before_stop is called when the process
    has begun to drain. Raises PortTaken.
    """
    server = grpc.server(ThreadPoolExecutor(settings.grpc_workers, "rpc"), options=SERVER_OPTIONS)
    names = add_services(server)
    health_servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    _bind(server.add_insecure_port, settings)
    metrics.serve(settings.grpc_interface, settings.metrics_port)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    for name in ("", *names):
        health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    logger.info("serving", extra={"address": address(settings)})
    stop.wait()
    logger.info("draining")
    health_servicer.enter_graceful_shutdown()
    before_stop()
    server.stop(settings.drain_seconds).wait()
    logger.info("stopped")


class AsyncServer:
    """A grpc.aio server with health and reflection. Use `run` from the process's main coroutine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.server = grpc.aio.server(options=SERVER_OPTIONS)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)

    async def run(
        self, names: Sequence[str], before_stop: Callable[[], "asyncio.Future[None] | None"] | None = None
    ) -> None:
        """Serves the named services, already added to `server`, until SIGTERM or SIGINT."""
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self.server)
        _bind(self.server.add_insecure_port, self._settings)
        metrics.serve(self._settings.grpc_interface, self._settings.metrics_port)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self.server.start()
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        logger.info("serving", extra={"address": address(self._settings)})
        await stop.wait()
        logger.info("draining")
        await self._health.enter_graceful_shutdown()
        if before_stop and (pending := before_stop()):
            await pending
        await self.server.stop(self._settings.drain_seconds)
        logger.info("stopped")


def _bind(add_port: Callable[[str], int], settings: Settings) -> None:
    try:
        bound = add_port(address(settings))
    except RuntimeError as error:
        raise PortTaken(address(settings)) from error
    if not bound:
        raise PortTaken(address(settings))
