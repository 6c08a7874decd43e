"""`python -m services.threat_model`: serves. `… work`: publishes events, deletes what is no longer kept. `… migrate`:
brings the schema up to date."""

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
from services.threat_model.worker.outbox import Publisher
from services.threat_model.worker.worker import Worker

MIGRATIONS = Path(__file__).parent / "migrations"
PUBLISHERS: Sequence[Publisher] = ()
"""Who is handed each event of the outbox."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.threat_model", description=__doc__)
    parser.add_argument("command", nargs="?", default="serve", choices=_COMMANDS)
    command = parser.parse_args(arguments).command
    return run("worker" if command == "work" else "threat_model", _COMMANDS[command])


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


def _work(settings: Settings) -> None:
    worker = Worker(_migrated_database(settings), settings, PUBLISHERS)
    worker.start()
    server.run(settings, lambda _: [], before_stop=worker.stop)


_COMMANDS = {"serve": _serve, "work": _work, "migrate": _migrate}


if __name__ == "__main__":
    sys.exit(main())
