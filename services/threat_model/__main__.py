"""`python -m services.threat_model`: serves. `… migrate`: brings the schema up to date."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.shared import log, migrations, server
from services.shared.database import Database
from services.shared.rpc import CHANNEL_OPTIONS, target
from services.shared.settings import Settings
from services.shared.settings import settings as read_settings
from services.threat_model.directory import AuthDirectory
from services.threat_model.service import add_services
from services.threat_model.tables import SCHEMA

MIGRATIONS = Path(__file__).parent / "migrations"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code; a start-up failure is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m services.threat_model", description=__doc__)
    parser.add_argument("command", nargs="?", default="serve", choices=("serve", "migrate"))
    command = parser.parse_args(arguments).command
    try:
        settings = read_settings()
        database = _migrated_database(settings)
        if command == "serve":
            _serve(settings, database)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return _fail(f"TMI_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}")
    except (SettingsError, ValueError, server.PortTaken) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _migrated_database(settings: Settings) -> Database:
    log.configure("threat_model", settings.log_level)
    if not settings.database_url:
        raise ValueError("TMI_DATABASE_URL is not set: name a database, such as postgresql://localhost/tmi")
    database = Database.from_settings(settings, SCHEMA)
    database.wait_until_reachable()
    migrations.upgrade(database, MIGRATIONS)
    return database


def _serve(settings: Settings, database: Database) -> None:
    with grpc.insecure_channel(target(settings.auth_address), options=CHANNEL_OPTIONS) as channel:
        directory = AuthDirectory(channel)
        server.run(
            settings,
            lambda grpc_server: add_services(
                grpc_server, database, directory, require_if_match=settings.require_if_match
            ),
        )


def _fail(message: str) -> int:
    sys.stderr.write(f"threat_model: {' '.join(message.split())}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
