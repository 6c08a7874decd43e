"""Where PostgreSQL and SQLite differ. Everything else in the services is the same SQL for both.

Column types, parameters that hold many ids, JSON text written by the database, upserts.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    ClauseElement,
    ColumnElement,
    CompoundSelect,
    Connection,
    CursorResult,
    DateTime,
    Delete,
    Dialect,
    Insert,
    Integer,
    Row,
    ScalarSelect,
    Select,
    String,
    Table,
    Text,
    Update,
    Uuid,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.types import TypeDecorator, UserDefinedType

# --- column types -----------------------------------------------------------------------------

UuidText = Uuid(as_uuid=False).with_variant(String(36), "sqlite")
"""A UUID as canonical text in Python: 16 bytes on PostgreSQL, text on SQLite."""

SerialId = BigInteger().with_variant(Integer(), "sqlite")
"""An ascending 64-bit id that the database assigns."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite, which has no zones, keeps the same instant as UTC text."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Says UTC where the database cannot."""
        if value is None or value.tzinfo is UTC:
            return value
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(UserDefinedType[Any]):
    """JSON kept as written: key order and the spelling of numbers survive.

    `json`, not `jsonb`: documents are handed out far more often than looked into. Bind values are
    Python data, or bytes that are JSON text already; None is SQL NULL.
    """

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """PostgreSQL's `json`; SQLite accepts the name and keeps text."""
        return "JSON"

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:  # noqa: ARG002
        """Text, sent untyped, so that PostgreSQL reads it as the column's json."""

        def process(value: Any) -> str | None:
            if value is None:
                return None
            return (value if isinstance(value, bytes) else orjson.dumps(value)).decode()

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:  # noqa: ARG002
        """Text to Python data; psycopg has already done it."""
        if dialect.name == "postgresql":
            return None
        return lambda value: None if value is None else orjson.loads(value)


# --- many values in one parameter -------------------------------------------------------------


class UuidList(UserDefinedType[list[str]]):
    """Bind type of many ids in one parameter: the statement's text does not depend on their number."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Only ever cast to, on PostgreSQL."""
        return "UUID[]"

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str]:
        """An array literal on PostgreSQL, a JSON array on SQLite."""
        if dialect.name == "postgresql":
            return lambda ids: "{" + ",".join(ids) + "}"
        return lambda ids: orjson.dumps(list(ids)).decode()


class TextList(UserDefinedType[list[str]]):
    """Bind type of many texts in one parameter."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Only ever cast to, on PostgreSQL."""
        return "TEXT[]"

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        """A list on PostgreSQL, a JSON array on SQLite."""
        if dialect.name == "postgresql":
            return list
        return lambda texts: orjson.dumps(list(texts)).decode()


class _IsOneOf(FunctionElement[bool]):
    name = "is_one_of"
    inherit_cache = True
    type = Boolean()


def is_one_of(column: ColumnElement[Any], values: BindParameter[Any]) -> ColumnElement[bool]:
    """`column` equals an element of a UuidList or TextList parameter; an index on the column serves."""
    return _IsOneOf(column, values)


@compiles(_IsOneOf)
def _is_one_of_postgresql(element: _IsOneOf, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = element.clauses
    cast = values.type.get_col_spec()  # type: ignore[attr-defined]
    return f"{compiler.process(column, **kw)} = ANY (CAST({compiler.process(values, **kw)} AS {cast}))"


@compiles(_IsOneOf, "sqlite")
def _is_one_of_sqlite(element: _IsOneOf, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = element.clauses
    return f"{compiler.process(column, **kw)} IN (SELECT value FROM json_each({compiler.process(values, **kw)}))"  # noqa: S608


class _JsonArrayContainsAny(FunctionElement[bool]):
    name = "json_array_contains_any"
    inherit_cache = True
    type = Boolean()


def json_array_contains_any(column: ColumnElement[Any], values: BindParameter[Any]) -> ColumnElement[bool]:
    """A Json column holding an array of texts has one of a TextList parameter's as an element."""
    return _JsonArrayContainsAny(column, values)


@compiles(_JsonArrayContainsAny)
def _contains_postgresql(element: _JsonArrayContainsAny, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"CAST({column} AS jsonb) ?| CAST({values} AS text[])"


@compiles(_JsonArrayContainsAny, "sqlite")
def _contains_sqlite(element: _JsonArrayContainsAny, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return (
        f"EXISTS (SELECT 1 FROM json_each({column}) AS own"  # noqa: S608
        f" JOIN json_each({values}) AS wanted ON own.value = wanted.value)"
    )


# --- JSON text written by the database --------------------------------------------------------
#
# Documents are concatenated as text: an optional member vanishes with its NULL, stored JSON is
# copied byte for byte, and the result passes through Python without being parsed.


class _JsonText(FunctionElement[str]):
    inherit_cache = True
    type = Text()


class JsonString(_JsonText):
    """A text as a JSON string; NULL stays NULL."""

    name = "json_string"
    inherit_cache = True


class JsonUuid(_JsonText):
    """A UUID as a JSON string; NULL stays NULL."""

    name = "json_uuid"
    inherit_cache = True


class JsonTimestamp(_JsonText):
    """A UtcDateTime as a JSON string: RFC 3339, UTC, microseconds; NULL stays NULL."""

    name = "json_timestamp"
    inherit_cache = True


class JsonBoolean(_JsonText):
    """A boolean as `true` or `false`; NULL stays NULL."""

    name = "json_boolean"
    inherit_cache = True


class JsonVerbatim(_JsonText):
    """A number, or what is JSON already; NULL stays NULL."""

    name = "json_verbatim"
    inherit_cache = True


class JsonOptional(_JsonText):
    """A member of a json_object that is left out when its value is NULL."""

    name = "json_optional"
    inherit_cache = True


class _JsonObject(_JsonText):
    name = "json_object_text"
    inherit_cache = True


def json_object(members: Mapping[str, ColumnElement[Any]]) -> ColumnElement[str]:
    """A JSON object as text, members in order. The first may not be JsonOptional; the others' values, when
    not JsonOptional, must never be NULL.
    """
    clauses: list[ColumnElement[Any]] = []
    for name, value in members.items():
        clauses += (literal_column(f"'\"{name}\":'"), value)
    return _JsonObject(*clauses)


def json_array(rows: Select[Any]) -> ScalarSelect[str]:
    """A JSON array as text of a one-column select of JSON texts, in the select's order."""
    elements = rows.subquery()
    (element,) = elements.c
    joined = _JoinedByCommas(element)
    return select(
        literal_column("'['") + func.coalesce(joined, "", type_=Text()) + literal_column("']'")
    ).scalar_subquery()


class _JoinedByCommas(_JsonText):
    name = "joined_by_commas"
    inherit_cache = True


@compiles(_JsonObject)
def _json_object(element: _JsonObject, compiler: SQLCompiler, **kw: Any) -> str:
    clauses = list(element.clauses)
    parts: list[str] = []
    for name, value in zip(clauses[::2], clauses[1::2], strict=True):
        label = compiler.process(name, **kw)
        separated = "'," + label[1:] if parts else "'{" + label[1:]
        rendered = compiler.process(value, **kw)
        parts.append(
            f"coalesce({separated} || {rendered}, '')"
            if isinstance(value, JsonOptional)
            else f"{separated} || {rendered}"
        )
    return "(" + " || ".join(parts) + " || '}')"


@compiles(JsonOptional)
def _optional(element: JsonOptional, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(_JoinedByCommas)
def _joined_postgresql(element: _JoinedByCommas, compiler: SQLCompiler, **kw: Any) -> str:
    return f"string_agg({compiler.process(element.clauses, **kw)}, ',')"


@compiles(_JoinedByCommas, "sqlite")
def _joined_sqlite(element: _JoinedByCommas, compiler: SQLCompiler, **kw: Any) -> str:
    return f"group_concat({compiler.process(element.clauses, **kw)}, ',')"


@compiles(JsonString)
def _json_string_postgresql(element: JsonString, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST(to_json({compiler.process(element.clauses, **kw)}) AS TEXT)"


@compiles(JsonString, "sqlite")
def _json_string_sqlite(element: JsonString, compiler: SQLCompiler, **kw: Any) -> str:
    return f"nullif(json_quote({compiler.process(element.clauses, **kw)}), 'null')"


@compiles(JsonUuid)
def _json_uuid(element: JsonUuid, compiler: SQLCompiler, **kw: Any) -> str:
    return f"""('"' || {compiler.process(element.clauses, **kw)} || '"')"""


@compiles(JsonTimestamp)
def _json_timestamp_postgresql(element: JsonTimestamp, compiler: SQLCompiler, **kw: Any) -> str:
    # Every connection has its time zone set to UTC.
    return f"""to_char({compiler.process(element.clauses, **kw)}, '\\"YYYY-MM-DD"T"HH24:MI:SS.US"Z"\\"')"""


@compiles(JsonTimestamp, "sqlite")
def _json_timestamp_sqlite(element: JsonTimestamp, compiler: SQLCompiler, **kw: Any) -> str:
    return f"""('"' || replace({compiler.process(element.clauses, **kw)}, ' ', 'T') || 'Z"')"""


@compiles(JsonBoolean)
def _json_boolean(element: JsonBoolean, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CASE {compiler.process(element.clauses, **kw)} WHEN true THEN 'true' WHEN false THEN 'false' END"


@compiles(JsonVerbatim)
def _json_verbatim(element: JsonVerbatim, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS TEXT)"


# --- statements -------------------------------------------------------------------------------


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

    Their parameters must have different names.
    """

    def __init__(self, *writes: InsertRows | Insert | Update | Delete) -> None:
        *others, last = (write.from_json if isinstance(write, InsertRows) else write for write in writes)
        for number, other in enumerate(others):
            last = last.add_cte(other.cte(f"write_{number}"))
        self._together = Prepared(last)
        self._one_by_one = [write if isinstance(write, InsertRows) else Prepared(write) for write in writes]

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> None:
        """Writes. Parameters that no statement has are ignored."""
        if is_postgresql(connection):
            self._together.execute(connection, parameters)
            return
        for write in self._one_by_one:
            if isinstance(write, Prepared):
                write.execute(connection, parameters)
            elif rows := parameters[write.parameter]:
                connection.execute(write.one_by_one, rows)


class Prepared:
    """A statement whose text is made once, for what is on the hot path.

    Executing it skips what SQLAlchemy does for every execution, about 0.15 ms of CPU. Parameters are
    bound by their types as always, and those that the statement does not have are ignored; values
    come back as the driver returns them, so select texts, numbers and booleans only. No `IN` with a
    list: use `is_one_of`.
    """

    def __init__(
        self, statement: Select[*tuple[Any, ...]] | CompoundSelect[*tuple[Any, ...]] | Insert | Update | Delete
    ) -> None:
        self._statement = statement
        self._compiled: dict[str, _CompiledText] = {}

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> CursorResult[*tuple[Any, ...]]:
        """The result, as of Connection.execute."""
        compiled = self._compiled.get(connection.dialect.name)
        if compiled is None:
            compiled = self._compiled[connection.dialect.name] = _CompiledText(self._statement, connection)
        return connection.exec_driver_sql(compiled.text, compiled.arguments(parameters))

    def one_or_none(self, connection: Connection, parameters: Mapping[str, Any]) -> Row[Any] | None:
        """The row, None when there is none."""
        return self.execute(connection, parameters).one_or_none()


class _CompiledText:
    def __init__(self, statement: ClauseElement, connection: Connection) -> None:
        translation = connection.get_execution_options().get("schema_translate_map")
        compiled = statement.compile(
            dialect=connection.dialect,
            schema_translate_map=translation,
            compile_kwargs={"render_postcompile": True},
        )
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        if translation is not None:
            self.text = compiled.preparer._render_schema_translates(self.text, translation)
        self._names: list[str] | None = compiled.positiontup
        self._constants = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        self._processors: dict[str, Callable[[Any], Any]] = {}
        for name, bind in compiled.binds.items():
            if processor := bind.type.dialect_impl(connection.dialect).bind_processor(connection.dialect):
                self._processors[name] = processor
        self._all = list(compiled.binds)

    def arguments(self, parameters: Mapping[str, Any]) -> Any:
        """In the driver's style, by name or by position."""
        values = {}
        for name in self._all:
            value = parameters[name] if name in parameters else self._constants[name]
            processor = self._processors.get(name)
            values[name] = processor(value) if processor else value
        return values if self._names is None else tuple(values[name] for name in self._names)


def is_postgresql(connection: Connection) -> bool:
    """True on PostgreSQL, the reference engine."""
    return connection.dialect.name == "postgresql"


def lock_migrations(connection: Connection) -> None:
    """Serialises migrations across replicas until the transaction ends."""
    if is_postgresql(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(7203451)"))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
