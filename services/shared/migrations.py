"""Schema migrations of one service with Alembic: at start-up and by `python -m services.<name> migrate`."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from services.shared import sql_dialect
from services.shared.database import Database
from services.shared.startup import CannotStart


def upgrade(database: Database, directory: Path) -> None:
    """Brings the service's schema to the newest revision; replicas wait for each other. Raises CannotStart."""
    try:
        _upgrade(database, directory)
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise CannotStart(f"the database at TMI_DATABASE_URL cannot be used: {reason}") from error


def _upgrade(database: Database, directory: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(directory))
    script = ScriptDirectory.from_config(config)
    with database.engine.connect() as connection, connection.begin():
        postgresql = sql_dialect.is_postgresql(connection)
        if postgresql:
            sql_dialect.lock_migrations(connection)
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{database.schema}"'))
        with EnvironmentContext(
            config, script, fn=lambda revision, _: script._upgrade_revs("head", revision)
        ) as context:
            context.configure(
                connection=connection,
                version_table=f"{database.schema}_alembic_version",
                version_table_schema=database.schema if postgresql else None,
                transactional_ddl=False,
            )
            context.run_migrations()


def new_revision(directory: Path, message: str) -> None:
    """Writes an empty revision file to be filled in by hand."""
    config = Config()
    config.set_main_option("script_location", str(directory))
    command.revision(config, message)
