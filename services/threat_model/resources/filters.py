"""Query filters and sort keys of lists: what a request field means in SQL."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import BindParameter, ColumnElement, Table, Text, bindparam, case, func, literal_column
from sqlalchemy.types import TypeEngine

from services.shared import rfc3339
from services.shared.errors import invalid_input
from services.shared.sql_dialect import (
    TextList,
    UtcDateTime,
    is_one_of,
    json_array_contains_any,
)


@dataclass(frozen=True)
class Filter:
    """A predicate over one parameter, and how the request's value becomes the parameter."""

    type: TypeEngine[Any]
    predicate: Callable[[BindParameter[Any]], ColumnElement[bool]]
    convert: Callable[[Any], Any] = lambda value: value


Filters = Mapping[str, Filter]
"""By the name of the request field."""


def present(filters: Filters, request: Message) -> dict[str, Any]:
    """Parameters for the filters that the request names. Raises ApiError 400 for an unreadable value."""
    values: dict[str, Any] = {}
    for field, value in request.ListFields():
        if field.name in filters:
            if isinstance(value, str) and "\x00" in value:
                raise invalid_input(f"{field.name}: the character NUL is not possible in a text.")
            values[field.name] = filters[field.name].convert(value)
    return values


def predicates(filters: Filters, names: Sequence[str]) -> list[ColumnElement[bool]]:
    """The predicates of the named filters; their parameters have the filters' names."""
    return [filters[name].predicate(bindparam(name, type_=filters[name].type)) for name in names]


def contains(*columns: ColumnElement[Any]) -> Filter:
    """One of the texts contains the value, in any case; no character is a wildcard."""

    def predicate(value: BindParameter[Any]) -> ColumnElement[bool]:
        found = [func.lower(column).like(value, escape="\\") for column in columns]
        return found[0] if len(found) == 1 else found[0] | found[1]

    return Filter(Text(), predicate, like_pattern)


def like_pattern(value: str) -> str:
    """LIKE pattern, escaped with a backslash, for texts in lower case that contain the value."""
    escaped = value.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def one_of(column: ColumnElement[Any], spelling: Callable[[str], str | None]) -> Filter:
    """The text equals one of the values, in any case. spelling: as which a value is stored."""
    return Filter(
        TextList(),
        lambda values: is_one_of(func.lower(column), values),
        lambda values: [(spelling(value) or value).lower() for value in values],
    )


def has_element(column: ColumnElement[Any]) -> Filter:
    """The JSON array has one of the values as an element."""
    return Filter(TextList(), lambda values: json_array_contains_any(column, values), list)


def equals(column: ColumnElement[Any]) -> Filter:
    """The value itself."""
    return Filter(column.type, lambda value: column == value)


def greater(column: ColumnElement[Any]) -> Filter:
    """More than the value."""
    return Filter(column.type, lambda value: column > value)


def at_least(column: ColumnElement[Any]) -> Filter:
    """The value or more."""
    return Filter(column.type, lambda value: column >= value)


def less(column: ColumnElement[Any]) -> Filter:
    """Less than the value."""
    return Filter(column.type, lambda value: column < value)


def at_most(column: ColumnElement[Any]) -> Filter:
    """The value or less."""
    return Filter(column.type, lambda value: column <= value)


def instant(filter_: Filter) -> Filter:
    """The same comparison with the value as an RFC 3339 date-time."""
    return Filter(UtcDateTime(), filter_.predicate, _timestamp)


def identifier(column: ColumnElement[Any]) -> Filter:
    """The value is this UUID, in any case."""
    return Filter(column.type, lambda value: column == value, str.lower)


def _timestamp(value: str) -> datetime:
    try:
        return rfc3339.from_text(value)
    except ValueError:
        raise invalid_input(f"{value[:64]} is not an RFC 3339 date-time.") from None


def rank(column: ColumnElement[Any], order: Mapping[str, int]) -> ColumnElement[int]:
    """Sort key of a text by its place in an order, in any case; -1 for anything else."""
    ranks: list[Any] = [
        (func.lower(column) == literal_column(f"'{value}'"), literal_column(str(r))) for value, r in order.items()
    ]
    return case(*ranks, else_=literal_column("-1"))


def sort_keys(table: Table) -> dict[str, ColumnElement[Any]]:
    """The sort keys that every list has."""
    c = table.c
    return {"name": func.lower(c.name), "alias": c.alias, "created_at": c.created_at, "modified_at": c.modified_at}


Sort = tuple[str, bool]
"""Name of a sort key, and whether it descends."""


def sort_of(text: str, keys: Mapping[str, ColumnElement[Any]]) -> Sort | None:
    """`<key>:<asc|desc>` or `<key>`; None, the default order, for anything that cannot be read so."""
    name, _, direction = text.strip().lower().partition(":")
    if name not in keys or direction not in ("asc", "desc", ""):
        return None
    return name, direction == "desc"


def order(
    sort: Sort | None,
    keys: Mapping[str, ColumnElement[Any]],
    default: Sequence[ColumnElement[Any]],
    tie: ColumnElement[Any],
) -> list[ColumnElement[Any]]:
    """ORDER BY of a sort; the default without one."""
    if sort is None:
        return [*default, tie]
    name, descends = sort
    return [keys[name].desc() if descends else keys[name].asc(), tie]
