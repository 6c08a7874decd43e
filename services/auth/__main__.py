"""`python -m services.auth`: serves. `… migrate` updates the schema; `… rotate-keys` adds a signing key."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from services.auth import housekeeping, startup
from services.auth.directory.administrators import FirstAdministrator
from services.auth.providers import configuration
from services.auth.providers.registry import Providers
from services.auth.schema import SCHEMA
from services.auth.service import add_services
from services.auth.tokens.signing_keys import SigningKeys
from services.shared import migrations, redis_connection, rfc3339, server
from services.shared.database import Database
from services.shared.settings import Settings
from services.shared.startup import run

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.auth", description=__doc__)
    parser.add_argument("command", nargs="?", default="serve", choices=_COMMANDS)
    return run("auth", _COMMANDS[parser.parse_args(arguments).command])


def _serve(settings: Settings) -> None:
    startup.check(settings)
    configured = configuration.read(os.environ, os.environ.get("TMI_CONFIG_FILE", ""))
    if not configured and settings.build_mode == "production":
        logger.warning("no identity provider is configured: nobody can log in")
    providers = Providers(settings, configured, rfc3339.now)
    database = _migrated_database(settings)
    client = redis_connection.connect(settings.redis_url)
    keys = SigningKeys(database, settings, rfc3339.now)
    keys.ensure()
    database.write(lambda connection: FirstAdministrator(settings).at_start(connection, rfc3339.now()))
    housekeeping.start(database, rfc3339.now)
    server.run(settings, lambda grpc_server: add_services(grpc_server, settings, database, client, keys, providers))


def _migrate(settings: Settings) -> None:
    _migrated_database(settings)


def _rotate_keys(settings: Settings) -> None:
    active_from = SigningKeys(_migrated_database(settings), settings, rfc3339.now).rotate()
    sys.stdout.write(f"The new key is published and signs from {rfc3339.to_text(active_from)} on.\n")


_COMMANDS = {"serve": _serve, "migrate": _migrate, "rotate-keys": _rotate_keys}


def _migrated_database(settings: Settings) -> Database:
    database = Database.from_settings(settings, SCHEMA)
    database.wait_until_reachable()
    migrations.upgrade(database, MIGRATIONS)
    return database


if __name__ == "__main__":
    sys.exit(main())
