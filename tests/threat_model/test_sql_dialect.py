from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from sqlalchemy import Boolean, ColumnElement, Float, Integer, Text, bindparam, cast, literal, null, select

from services.shared.database import Database
from services.shared.sql_dialect import (
    InsertBoth,
    Json,
    JsonBoolean,
    JsonOptional,
    JsonString,
    JsonTimestamp,
    JsonUuid,
    JsonVerbatim,
    Prepared,
    TextList,
    UtcDateTime,
    UuidList,
    UuidText,
    WriteReturning,
    is_one_of,
    json_array,
    json_array_contains_any,
    json_object,
)
from services.threat_model.diagrams import DIAGRAMS
from services.threat_model.tables import alias_counters, outbox

ID = "6d5ef7b2-0000-4000-8000-000000000001"


def scalar(database: Database, expression: ColumnElement[Any]) -> Any:
    return database.read(lambda connection: connection.execute(select(expression)).scalar_one())


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (JsonString(literal('a"b\\c\n\u0001é日', Text())), None),
        (JsonString(literal("null", Text())), '"null"'),
        (JsonString(literal("", Text())), '""'),
        (JsonUuid(literal(ID, UuidText)), f'"{ID}"'),
        (JsonVerbatim(literal(7.5, Float())), "7.5"),
        (JsonVerbatim(literal(-3, Integer())), "-3"),
        (JsonVerbatim(literal([1, {"b": None, "a": 1.0}], Json())), '[1,{"b":null,"a":1.0}]'),
        (JsonBoolean(literal(True, Boolean())), "true"),
        (JsonBoolean(literal(False, Boolean())), "false"),
    ],
)
def test_values_as_json_text(any_database: Database, expression: ColumnElement[Any], text: str | None) -> None:
    written = scalar(any_database, expression)
    if text is None:
        assert orjson.loads(written) == 'a"b\\c\n\u0001é日'
    else:
        assert written == text


@pytest.mark.parametrize("writer", [JsonString, JsonUuid, JsonTimestamp, JsonBoolean, JsonVerbatim])
def test_null_stays_null(any_database: Database, writer: Any) -> None:
    types: dict[Any, Any] = {JsonUuid: UuidText, JsonTimestamp: UtcDateTime(), JsonBoolean: Boolean()}
    assert scalar(any_database, writer(cast(null(), types.get(writer, Text())))) is None


def test_timestamps_are_utc_with_microseconds(any_database: Database) -> None:
    at = datetime(2026, 1, 31, 12, 0, 0, 120, tzinfo=timezone(timedelta(hours=2))).astimezone(UTC)
    row = {"event_type": "x", "threat_model_id": ID, "object_id": ID, "payload": {"a": [None]}, "created_at": at}
    any_database.write(lambda connection: connection.execute(outbox.insert(), row))
    query = select(outbox.c.created_at, outbox.c.payload, JsonTimestamp(outbox.c.created_at).label("text"))
    read = any_database.read(lambda connection: connection.execute(query).first())
    assert read is not None
    assert (read.created_at, read.created_at.tzinfo, read.payload) == (at, UTC, {"a": [None]})
    assert read.text == '"2026-01-31T10:00:00.000120Z"'


def test_an_object_leaves_out_optional_nulls(any_database: Database) -> None:
    members: dict[str, ColumnElement[Any]] = {
        "a": JsonString(literal("x", Text())),
        "b": JsonOptional(JsonString(literal(None, Text()))),
        "c": JsonOptional(JsonVerbatim(literal(1, Integer()))),
        "d": json_array(select(JsonVerbatim(literal(1, Integer()))).where(literal(1, Integer()) == 2)),
    }
    assert scalar(any_database, json_object(members)) == '{"a":"x","c":1,"d":[]}'


def test_many_values_in_one_parameter(any_database: Database) -> None:
    ids = is_one_of(literal(ID, UuidText), bindparam("ids", type_=UuidList()))
    texts = is_one_of(literal("it's", Text()), bindparam("texts", type_=TextList()))
    array = literal(["a{", 'b"'], Json())
    contained = json_array_contains_any(array, bindparam("elements", type_=TextList()))

    def answers(**parameters: Any) -> Any:
        query = select(ids, texts, contained)
        return any_database.read(lambda connection: [bool(v) for v in connection.execute(query, parameters).one()])

    assert answers(ids=[ID], texts=["x", "it's"], elements=['b"', "z"]) == [True, True, True]
    assert answers(ids=[], texts=[], elements=[]) == [False, False, False]
    assert answers(ids=[ID.replace("1", "2")], texts=["{}"], elements=["a"]) == [False, False, False]


def test_a_prepared_select_binds_by_type_and_ignores_other_parameters(any_database: Database) -> None:
    wanted = is_one_of(literal(ID, UuidText), bindparam("ids", type_=UuidList()))
    prepared = Prepared(select(JsonBoolean(wanted).label("found"), literal("100% 'x'", Text()).label("text")))
    for ids, found in (([ID], "true"), ([], "false")):
        parameters = {"ids": ids, "unused": object()}
        row = any_database.read(lambda connection, p=parameters: prepared.one_or_none(connection, p))  # type: ignore[misc]
        assert row is not None
        assert (row.found, row.text) == (found, "100% 'x'")
    empty = Prepared(select(null()).where(literal(1, Integer()) == 2))
    assert any_database.read(lambda connection: empty.one_or_none(connection, {})) is None


def test_two_inserts_at_once(any_database: Database) -> None:
    def values(prefix: str) -> dict[str, Any]:
        columns = alias_counters.c
        return {column.name: bindparam(f"{prefix}_{column.name}", type_=column.type) for column in columns}

    both = InsertBoth(alias_counters.insert().values(values("a")), alias_counters.insert().values(values("b")))
    first = {"a_scope_id": ID, "a_kind": "first", "a_next_alias": 1}
    second = {"b_scope_id": ID, "b_kind": "second", "b_next_alias": 2}
    any_database.write(lambda connection: both.execute(connection, first, second))
    query = select(alias_counters.c.kind).where(alias_counters.c.scope_id == ID).order_by(alias_counters.c.kind)
    assert any_database.read(lambda connection: connection.execute(query).scalars().all()) == ["first", "second"]


def test_an_insert_does_not_answer_with_a_subquery() -> None:
    with pytest.raises(ValueError, match="other tables"):
        WriteReturning(DIAGRAMS.table.insert(), DIAGRAMS.document, DIAGRAMS.table.c.id)
