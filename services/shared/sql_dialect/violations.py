"""Why a statement failed, as the drivers say it: the rule of the schema that it broke, a lock."""

import re
import sqlite3
from dataclasses import dataclass
from enum import Enum

import psycopg
from sqlalchemy import Index, MetaData, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.exc import DataError, DBAPIError


class Rule(Enum):
    """A kind of rule."""

    UNIQUE = "unique"
    FOREIGN_KEY = "foreign key"
    VALUE = "value"
    """NOT NULL, CHECK, and what a column's type cannot hold."""


@dataclass(frozen=True)
class Violation:
    """A broken rule.

    name: of the constraint or unique index; `table.column` for NOT NULL; "" where the database does not
    say, which is SQLite for foreign keys and PostgreSQL for what a type cannot hold.
    """

    rule: Rule
    name: str


_POSTGRESQL_RULES = {
    "23505": Rule.UNIQUE,
    "23P01": Rule.UNIQUE,  # exclusion_violation
    "23503": Rule.FOREIGN_KEY,
    "23001": Rule.FOREIGN_KEY,  # restrict_violation
    "23502": Rule.VALUE,  # not_null_violation
    "23514": Rule.VALUE,  # check_violation
}
_SQLITE_RULES = {
    "SQLITE_CONSTRAINT_UNIQUE": Rule.UNIQUE,
    "SQLITE_CONSTRAINT_PRIMARYKEY": Rule.UNIQUE,
    "SQLITE_CONSTRAINT_ROWID": Rule.UNIQUE,
    "SQLITE_CONSTRAINT_FOREIGNKEY": Rule.FOREIGN_KEY,
    "SQLITE_CONSTRAINT_NOTNULL": Rule.VALUE,
    "SQLITE_CONSTRAINT_CHECK": Rule.VALUE,
    "SQLITE_MISMATCH": Rule.VALUE,
}
_SQLITE_MESSAGE = re.compile(r"(?:UNIQUE|NOT NULL|CHECK) constraint failed: (?:index '(?P<index>.+)'|(?P<what>.+))")


def violation_of(error: DBAPIError, metadata: MetaData) -> Violation | None:
    """The rule that a failed statement broke; None when it failed for another reason.

    metadata: the tables, in which names are looked up that SQLite does not say.
    """
    cause = error.orig
    if isinstance(cause, psycopg.Error):
        rule = _POSTGRESQL_RULES.get(cause.sqlstate or "")
        name = cause.diag.constraint_name or ".".join(filter(None, (cause.diag.table_name, cause.diag.column_name)))
    elif isinstance(cause, sqlite3.Error):
        rule = _SQLITE_RULES.get(getattr(cause, "sqlite_errorname", ""))
        name = _sqlite_name(str(cause), metadata) if rule else ""
    else:
        return None
    if rule is None and isinstance(error, DataError):
        rule = Rule.VALUE
    return Violation(rule, name) if rule else None


def is_lock_timeout(error: DBAPIError) -> bool:
    """Whether a statement gave up waiting for what another transaction holds."""
    cause = error.orig
    if isinstance(cause, psycopg.errors.LockNotAvailable):
        return True
    return isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def _sqlite_name(message: str, metadata: MetaData) -> str:
    """SQLite names a unique index only when it is over expressions, otherwise the columns."""
    match = _SQLITE_MESSAGE.fullmatch(message)
    if match is None:
        return ""
    if match["index"]:
        return match["index"]
    columns = match["what"].split(", ")
    table_name = columns[0].partition(".")[0]
    for table in metadata.tables.values():
        if table.name == table_name and message.startswith("UNIQUE"):
            return _unique(table, {column.partition(".")[2] for column in columns})
    return match["what"]


def _unique(table: Table, columns: set[str]) -> str:
    keys: list[PrimaryKeyConstraint | UniqueConstraint | Index] = [table.primary_key]
    keys += [constraint for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    keys += [index for index in table.indexes if index.unique]
    return next((str(key.name) for key in keys if {column.name for column in key.columns} == columns), "")
