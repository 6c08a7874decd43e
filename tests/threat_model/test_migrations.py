import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select

from services.shared import migrations, principal
from services.shared.database import Database
from services.threat_model.__main__ import MIGRATIONS
from services.threat_model.people.tables import principals
from services.threat_model.schema import SCHEMA, metadata


def test_the_migrated_schema_is_the_declared_one(postgresql_database: Database) -> None:
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
        "include_object": lambda _item, name, *_: "alembic" not in (name or ""),
        "compare_type": True,
    }
    with postgresql_database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(any_database: Database) -> None:
    migrations.upgrade(any_database, MIGRATIONS)
    with any_database.engine.connect() as connection:
        schema = SCHEMA if connection.dialect.name == "postgresql" else None
        tables = set(inspect(connection).get_table_names(schema))
    assert {table.name for table in metadata.sorted_tables} < tables


@pytest.mark.parametrize("name", ["everyone", "security-reviewers", "administrators", "tmi-automation"])
def test_built_in_groups_are_known_by_their_fixed_ids(any_database: Database, name: str) -> None:
    query = select(principals.c.id).where(principals.c.provider == "tmi", principals.c.provider_id == name)
    id_ = any_database.read(lambda connection: connection.execute(query).scalar_one())
    assert id_ == getattr(principal, f"{name.upper().replace('-', '_')}_GROUP_ID")
