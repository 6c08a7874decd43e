"""JSON text written by the database."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    Text,
    func,
    literal_column,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

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
