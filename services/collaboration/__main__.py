"""`python -m services.collaboration`: one replica of the collaboration service."""

import sys

import grpc
import uvloop

from services.collaboration.service import CollaborationService
from services.shared import garbage, rpc
from services.shared.redis_connection import connect_async
from services.shared.server import AsyncServer
from services.shared.settings import Settings
from services.shared.startup import CannotStart, run


async def _serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; then gateways are sent to other replicas first. Raises CannotStart."""
    client = connect_async(settings.redis_url)
    channel = grpc.aio.insecure_channel(rpc.target(settings.threat_model_address), options=rpc.CHANNEL_OPTIONS)
    server = AsyncServer(settings)
    service = CollaborationService(settings, channel, client)
    names = service.add_to(server.server)
    service.start()
    garbage.settle()
    try:
        await server.run(names, before_stop=service.rooms.drain)
    finally:
        await service.stop()
        await channel.close(None)
        await client.aclose()


def main() -> int:
    """Runs the process and returns the exit code."""
    return run("collaboration", _start)


def _start(settings: Settings) -> None:
    if not settings.redis_url:
        raise CannotStart("TMI_REDIS_URL is not set: replicas share tickets and presence in Redis or Valkey.")
    uvloop.run(_serve(settings))


if __name__ == "__main__":
    sys.exit(main())
