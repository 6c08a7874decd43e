from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from services.auth.__main__ import MIGRATIONS
from services.auth.directory.tables import groups as groups_table
from services.auth.schema import metadata
from services.shared import migrations, sql_dialect
from services.shared.database import Database
from tests.auth.storage import count


def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.engine.connect() as connection:
        in_schema = {"include_schemas": True, "version_table": "auth_alembic_version", "version_table_schema": "auth"}
        options = in_schema if sql_dialect.is_postgresql(connection) else {"version_table": "auth_alembic_version"}
        if sql_dialect.is_postgresql(connection):
            differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
            assert differences == []
        for table in metadata.sorted_tables:
            connection.execute(select(table).limit(0))


def test_upgrading_again_changes_nothing(database: Database) -> None:
    migrations.upgrade(database, MIGRATIONS)
    assert count(database, groups_table) == 6


def test_the_built_in_groups_have_fixed_ids(database: Database) -> None:
    rows = database.read(lambda connection: connection.execute(select(groups_table)).all())
    assert {(row.id[-1], row.provider, row.group_name) for row in rows} == {
        ("0", "tmi", "everyone"),
        ("1", "tmi", "security-reviewers"),
        ("2", "tmi", "administrators"),
        ("3", "tmi", "confidential-project-reviewers"),
        ("4", "tmi", "tmi-automation"),
        ("5", "tmi", "embedding-automation"),
    }
