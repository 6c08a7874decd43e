"""`python -m services.health`: the process that knows how the whole system does."""

import sys

import uvloop

from services.health.handlers import HealthHandlers
from services.health.prober import Prober
from services.shared import log, rpc
from services.shared.server import AsyncServer, PortTaken
from services.shared.settings import Settings
from tmi.health.v1 import health_pb2


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM. Raises PortTaken."""
    async with Prober(settings) as prober:
        server = AsyncServer(settings)
        service = health_pb2.DESCRIPTOR.services_by_name["Health"]
        rpc.add_async_service(server.server, service, HealthHandlers(settings, prober).by_name())
        await server.run([service.full_name])


def main() -> int:
    """Runs the process; a failure to start is one line on stderr and exit code 1."""
    try:
        settings = Settings()
        if not settings.database_url:
            raise ValueError("set TMI_DATABASE_URL to the database whose health is to be watched")
        log.configure("health", settings.log_level)
        uvloop.run(serve(settings))
    except (PortTaken, ValueError) as error:
        print(f"health cannot start: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
