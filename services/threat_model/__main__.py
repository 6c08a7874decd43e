"""`python -m services.threat_model`: serves. `… migrate`: brings the schema up to date."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc

from services.shared import migrations, server
from services.shared.database import Database
from services.shared.rpc import CHANNEL_OPTIONS, target
from services.shared.settings import Settings
from services.shared.startup import run
from services.threat_model.people.directory import AuthDirectory
from services.threat_model.schema import SCHEMA
from services.threat_model.service import add_services

MIGRATIONS = Path(__file__).parent / "migrations"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.threat_model", description=__doc__)
    parser.add_argument("command", nargs="?", default="serve", choices=_COMMANDS)
    return run("threat_model", _COMMANDS[parser.parse_args(arguments).command])


def _migrate(settings: Settings) -> None:
    _migrated_database(settings)


def _migrated_database(settings: Settings) -> Database:
    database = Database.from_settings(settings, SCHEMA)
    database.wait_until_reachable()
    migrations.upgrade(database, MIGRATIONS)
    return database


def _serve(settings: Settings) -> None:
    database = _migrated_database(settings)
    with grpc.insecure_channel(target(settings.auth_address), options=CHANNEL_OPTIONS) as channel:
        directory = AuthDirectory(channel)
        server.run(
            settings,
            lambda grpc_server: add_services(
                grpc_server, database, directory, require_if_match=settings.require_if_match
            ),
        )


_COMMANDS = {"serve": _serve, "migrate": _migrate}


if __name__ == "__main__":
    sys.exit(main())
