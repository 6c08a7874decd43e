"""`python -m services.health`: the process that knows how the whole system does."""

import sys

import uvloop

from services.health.handlers import HealthHandlers
from services.health.prober import Prober
from services.shared import rpc
from services.shared.database import normalise
from services.shared.server import AsyncServer
from services.shared.settings import Settings
from services.shared.startup import CannotStart, run
from tmi.health.v1 import health_pb2


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM. Raises PortTaken."""
    async with Prober(settings) as prober:
        server = AsyncServer(settings)
        service = health_pb2.DESCRIPTOR.services_by_name["Health"]
        rpc.add_async_service(server.server, service, HealthHandlers(settings, prober).by_name())
        await server.run([service.full_name])


def main() -> int:
    """Runs the process and returns the exit code."""
    return run("health", _serve)


def _serve(settings: Settings) -> None:
    if not settings.database_url:
        raise CannotStart("TMI_DATABASE_URL is not set: name the database whose health is to be watched.")
    try:
        normalise(settings.database_url)
    except ValueError as error:
        raise CannotStart(f"TMI_DATABASE_URL cannot be used: {error}.") from error
    uvloop.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
