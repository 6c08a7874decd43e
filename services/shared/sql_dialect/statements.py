"""Statements that write several rows, answer what they wrote, or lock."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Dialect,
    Insert,
    Row,
    ScalarSelect,
    Select,
    Table,
    Text,
    Update,
    bindparam,
    cast,
    column,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.types import UserDefinedType

from services.shared.sql_dialect.columns import Json, UuidList, is_one_of


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update` (same API on both)."""
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)


class WriteReturning:
    """An INSERT or UPDATE of one row that answers an expression over the row as it is afterwards.

    One statement with RETURNING on PostgreSQL. SQLite's RETURNING does not see other tables, so
    there the row is selected by `key` afterwards. Raises ValueError for an INSERT whose answer holds
    a subquery: SQLAlchemy does not correlate it, so that it would answer every row of the table.
    """

    def __init__(self, write: Insert | Update, answer: ColumnElement[Any], key: ColumnElement[Any]) -> None:
        if isinstance(write, Insert) and any(isinstance(part, ScalarSelect) for part in iterate(answer)):
            raise ValueError("the answer of an INSERT cannot look into other tables")
        self._write = write
        self._returning = write.returning(answer)
        self._select = select(answer).where(key == bindparam("written_key", type_=key.type))

    def scalar(self, connection: Connection, parameters: Mapping[str, Any], key: str) -> Any:
        """Writes and answers. key: of the row, for the SELECT."""
        if is_postgresql(connection):
            return connection.execute(self._returning, parameters).scalar_one()
        connection.execute(self._write, parameters)
        return connection.execute(self._select, {"written_key": key}).scalar_one()


class InsertRows:
    """An INSERT of any number of rows, also of none, for WriteTogether.

    columns: what each row, a mapping by column name, has values for. replace: those of them that
    overwrite a row with the same primary key, which is an error otherwise.
    """

    def __init__(self, table: Table, columns: Sequence[str], *, replace: Sequence[str] = ()) -> None:
        self.parameter = table.name
        """The parameter that holds the rows: a list of mappings."""
        types = {name: table.c[name].type for name in columns}
        # JSON travels as text: PostgreSQL refuses a \u0000 inside the array.
        json_columns = tuple(name for name, type_ in types.items() if isinstance(type_, Json))
        rows = (
            func.json_to_recordset(bindparam(self.parameter, type_=_JsonRows(json_columns)))
            .table_valued(*(column(name, Text() if name in json_columns else types[name]) for name in columns))
            .render_derived(name=f"new_{table.name}", with_types=True)
        )
        values = [cast(rows.c[name], Json()) if name in json_columns else rows.c[name] for name in columns]
        self.from_json = postgresql.insert(table).from_select(list(columns), select(*values))
        self.one_by_one = sqlite.insert(table)
        if replace:
            key = list(table.primary_key)
            old, new = self.from_json.excluded, self.one_by_one.excluded
            self.from_json = self.from_json.on_conflict_do_update(
                index_elements=key, set_={name: old[name] for name in replace}
            )
            self.one_by_one = self.one_by_one.on_conflict_do_update(
                index_elements=key, set_={name: new[name] for name in replace}
            )


class InsertReturning:
    """An INSERT of one or more rows of one table that answers an expression over each, by id.

    columns: what each row, a mapping by column name, has values for. answer: over the table alone; None
    for no answer.
    """

    def __init__(self, table: Table, columns: Sequence[str], answer: ColumnElement[Any] | None) -> None:
        self._insert = InsertRows(table, columns)
        self._returning: Any = self._insert.from_json
        self._select: Select[Any] | None = None
        if answer is not None:
            self._returning = self._returning.returning(table.c.id, answer)
            self._select = select(table.c.id, answer).where(
                is_one_of(table.c.id, bindparam("written_ids", type_=UuidList()))
            )

    def execute(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Writes; the answers by id, empty without an answer."""
        if is_postgresql(connection):
            result = connection.execute(self._returning, {self._insert.parameter: rows})
        else:
            connection.execute(self._insert.one_by_one, list(rows))
            if self._select is not None:
                result = connection.execute(self._select, {"written_ids": [row["id"] for row in rows]})
        return {} if self._select is None else dict(tuple(row) for row in result)


class LockedUpdate:
    """An UPDATE of the rows that a condition finds, locked in the order of their ids beforehand.

    Everybody who locks several rows of a table does so in that order. Answers columns as they were before,
    in one statement where the database can.
    """

    def __init__(
        self,
        table: Table,
        condition: ColumnElement[bool],
        values: Mapping[str, Any],
        before: Sequence[ColumnElement[Any]],
    ) -> None:
        self._find = select(table.c.id, *before).where(condition).order_by(table.c.id)
        self._update = table.update().values(**values)
        found = self._find.with_for_update(key_share=True).cte("found")
        self._together = self._update.where(table.c.id == found.c.id).returning(*found.c)
        self._update_found = self._update.where(is_one_of(table.c.id, bindparam("found_ids", type_=UuidList())))

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Writes; `id` and the columns before, of each row, in no order."""
        if is_postgresql(connection):
            return connection.execute(self._together, parameters).all()
        found = connection.execute(self._find, parameters).all()
        if found:
            connection.execute(self._update_found, {**parameters, "found_ids": [row.id for row in found]})
        return found


class _JsonRows(UserDefinedType[list[Mapping[str, Any]]]):
    cache_ok = True

    def __init__(self, json_columns: tuple[str, ...]) -> None:
        self.json_columns = json_columns

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str]:
        """A JSON array of objects."""
        json_text = Json().bind_processor(dialect)

        def process(rows: list[Mapping[str, Any]]) -> str:
            if self.json_columns:
                rows = [{**row, **{name: json_text(row[name]) for name in self.json_columns}} for row in rows]
            return orjson.dumps(rows).decode()

        return process


class WriteTogether:
    """Independent writes, sent as one statement where the database can; none sees what another does.

    Their parameters must have different names, which no column of their tables has.
    """

    def __init__(self, *writes: InsertRows | Insert | Update | Delete) -> None:
        *others, last = (write.from_json if isinstance(write, InsertRows) else write for write in writes)
        for number, other in enumerate(others):
            last = last.add_cte(other.cte(f"write_{number}"))
        self._together = last
        self._one_by_one = [
            write if isinstance(write, InsertRows) else (write, write.compile(dialect=sqlite.dialect()).params.keys())
            for write in writes
        ]

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> None:
        """Writes. Parameters that no write has are ignored."""
        if is_postgresql(connection):
            connection.execute(self._together, parameters)
            return
        for write in self._one_by_one:
            if isinstance(write, InsertRows):
                if rows := parameters[write.parameter]:
                    connection.execute(write.one_by_one, rows)
            else:
                statement, names = write
                connection.execute(statement, {name: parameters[name] for name in names & parameters.keys()})


def is_postgresql(connection: Connection) -> bool:
    """True on PostgreSQL, the reference engine."""
    return connection.dialect.name == "postgresql"


def lock_migrations(connection: Connection) -> None:
    """Serialises migrations across replicas until the transaction ends, for as long as they take."""
    if is_postgresql(connection):
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(7203451)"))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def advisory_lock(connection: Connection, name: str) -> Iterator[bool]:
    """Tries to take the lock `name` of the database for the block; False when another connection holds it.

    The lock goes with its connection, so that nobody keeps it who has died. SQLite has none: True for all.
    """
    if not is_postgresql(connection):
        yield True
        return
    key = {"key": int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)}
    locked = bool(connection.execute(text("SELECT pg_try_advisory_lock(CAST(:key AS bigint))"), key).scalar_one())
    try:
        yield locked
    finally:
        if locked:
            connection.execute(text("SELECT pg_advisory_unlock(CAST(:key AS bigint))"), key)
