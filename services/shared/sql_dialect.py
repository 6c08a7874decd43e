"""Where PostgreSQL and SQLite differ. Everything else in the services is the same SQL for both."""

from typing import Any

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update` (same API on both)."""
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)


def is_postgresql(connection: Connection) -> bool:
    """True on PostgreSQL, the reference engine."""
    return connection.dialect.name == "postgresql"


def lock_migrations(connection: Connection) -> None:
    """Serialises migrations across replicas until the transaction ends."""
    if is_postgresql(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(7203451)"))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
