"""`python -m services.collaboration`: one replica of the collaboration service."""

import sys

import grpc
import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.collaboration.service import CollaborationService
from services.shared import log, rpc
from services.shared.redis_connection import connect_async
from services.shared.server import AsyncServer, PortTaken
from services.shared.settings import Settings
from services.shared.settings import settings as read_settings


class UnusableSetting(Exception):
    """A setting is missing or wrong; the message says which and what to do."""


async def _serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; then gateways are sent to other replicas first."""
    try:
        client = connect_async(settings.redis_url)
    except ValueError as error:
        raise UnusableSetting(f"TMI_REDIS_URL is not usable: {error}") from error
    channel = grpc.aio.insecure_channel(rpc.target(settings.threat_model_address), options=rpc.CHANNEL_OPTIONS)
    server = AsyncServer(settings)
    service = CollaborationService(settings, channel, client)
    names = service.add_to(server.server)
    service.start()
    try:
        await server.run(names, before_stop=service.rooms.drain)
    finally:
        await service.stop()
        await channel.close(None)
        await client.aclose()


def main() -> int:
    """Runs the process and returns the exit code; a start-up failure is one line on stderr."""
    try:
        settings = read_settings()
        if not settings.redis_url:
            raise UnusableSetting("TMI_REDIS_URL is not set: replicas share tickets and presence in Redis or Valkey.")
        log.configure("collaboration", settings.log_level)
        uvloop.run(_serve(settings))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return _fail(f"TMI_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}")
    except PortTaken as error:
        return _fail(f"{error}: stop what uses it, or set TMI_GRPC_PORT to another port.")
    except OSError as error:
        return _fail(
            f"cannot serve metrics ({error.strerror}): set TMI_METRICS_PORT to another port, or to 0 for none."
        )
    except (UnusableSetting, SettingsError) as error:
        return _fail(str(error))
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"collaboration: {' '.join(message.split())}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
