"""Column types, and parameters that hold many values."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    DateTime,
    Dialect,
    Integer,
    String,
    Uuid,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, UserDefinedType

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


class _Octets(FunctionElement[int]):
    name = "octets"
    inherit_cache = True
    type = Integer()


def octets(column: ColumnElement[Any]) -> ColumnElement[int]:
    """Bytes of a text or of JSON text, in UTF-8; NULL stays NULL. A long text is not read for it."""
    return _Octets(column)


@compiles(_Octets)
def _octets_postgresql(element: _Octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"octet_length(CAST({compiler.process(element.clauses, **kw)} AS TEXT))"


@compiles(_Octets, "sqlite")
def _octets_sqlite(element: _Octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **kw)} AS BLOB))"


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
