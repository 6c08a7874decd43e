"""Schema migrations of one service with Alembic: at start-up and by `python -m services.<name> migrate`.

`make migration` begins a new one.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from services.shared import sql_dialect
from services.shared.database import Database
from services.shared.startup import CannotStart

_SERVICES = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_TEMPLATE = '''"""{title}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{previous}"

SCHEMA = "{schema}"


def upgrade() -> None:
    raise NotImplementedError
'''


def upgrade(database: Database, directory: Path) -> None:
    """Brings the service's schema to the newest revision; replicas wait for each other. Raises CannotStart."""
    try:
        _upgrade(database, directory)
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise CannotStart(f"the database at TMI_DATABASE_URL cannot be used: {reason}") from error


def _upgrade(database: Database, directory: Path) -> None:
    script = ScriptDirectory(directory)
    with database.engine.connect() as connection, connection.begin():
        postgresql = sql_dialect.is_postgresql(connection)
        if postgresql:
            sql_dialect.lock_migrations(connection)
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{database.schema}"'))
        with EnvironmentContext(
            Config(), script, fn=lambda revision, _: script._upgrade_revs("head", revision)
        ) as context:
            context.configure(
                connection=connection,
                version_table=f"{database.schema}_alembic_version",
                version_table_schema=database.schema if postgresql else None,
                transactional_ddl=False,
            )
            context.run_migrations()


def new_revision(directory: Path, name: str) -> Path:
    """Writes the next revision, to be filled in by hand, and returns its file.

    directory: `migrations` of a service. name: lower-case words joined by underscores. Raises ValueError for
    another name, and when the revisions do not end in one.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a migration, such as add_tags")
    heads = ScriptDirectory(directory).get_heads()
    if len(heads) != 1:
        raise ValueError(f"{directory} ends in the revisions {', '.join(heads)}: put them in one order first")
    revision = f"{int(heads[0]) + 1:04}"
    file = directory / "versions" / f"{revision}_{name}.py"
    title = name.replace("_", " ").capitalize()
    file.write_text(_TEMPLATE.format(title=title, revision=revision, previous=heads[0], schema=directory.parent.name))
    return file


def main(arguments: Sequence[str]) -> int:
    """`python -m services.shared.migrations <service> <name>`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.shared.migrations")
    services = sorted(folder.parent.name for folder in _SERVICES.glob("*/migrations"))
    parser.add_argument("service", choices=services)
    parser.add_argument("name")
    given = parser.parse_args(arguments)
    try:
        file = new_revision(_SERVICES / given.service / "migrations", given.name)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(f"{os.path.relpath(file)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
