import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from sqlalchemy import Boolean, ColumnElement, Float, Integer, Text, bindparam, cast, literal, null, select
from sqlalchemy.exc import IntegrityError

from services.shared.database import Database
from services.shared.sql_dialect import (
    InsertRows,
    Json,
    JsonBoolean,
    JsonOptional,
    JsonString,
    JsonTimestamp,
    JsonUuid,
    JsonVerbatim,
    TextList,
    UtcDateTime,
    UuidList,
    UuidText,
    WriteReturning,
    WriteTogether,
    is_one_of,
    json_array,
    json_array_contains_any,
    json_object,
)
from services.threat_model.audit.tables import audit_entries, outbox
from services.threat_model.diagrams.declaration import DIAGRAMS
from services.threat_model.resources.tables import alias_counters

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
    row = {"event_type": "x", "root_id": ID, "object_id": ID, "payload": {"a": [None]}, "created_at": at}
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


def test_a_select_binds_by_type_and_ignores_other_parameters(any_database: Database) -> None:
    wanted = is_one_of(literal(ID, UuidText), bindparam("ids", type_=UuidList()))
    statement = select(JsonBoolean(wanted).label("found"), literal("100% 'x'", Text()).label("text"))
    for ids, found in (([ID], "true"), ([], "false")):
        parameters = {"ids": ids, "unused": object()}
        row = any_database.read(lambda connection, p=parameters: connection.execute(statement, p).one())  # type: ignore[misc]
        assert (row.found, row.text) == (found, "100% 'x'")


def test_writes_together_insert_replace_update_and_delete(any_database: Database) -> None:
    counters = alias_counters.c
    scope = str(uuid.uuid4())
    event = {
        "event_type": "test",
        "root_id": scope,
        "object_id": scope,
        "payload": b'{"b":1.0}',
        "created_at": datetime.now(UTC),
    }
    together = WriteTogether(
        InsertRows(alias_counters, ["scope_id", "kind", "next_alias"], replace=["next_alias"]),
        alias_counters.update().where(counters.kind == bindparam("of_kind")).values(next_alias=bindparam("new_alias")),
        alias_counters.delete().where(is_one_of(counters.kind, bindparam("old_kinds", type_=TextList()))),
        outbox.insert().values({name: bindparam(f"event_{name}", type_=outbox.c[name].type) for name in event}),
    )

    def write(of_kind: str, new_alias: int, old_kinds: list[str], **rows: int) -> dict[str, int]:
        values = [{"scope_id": scope, "kind": kind, "next_alias": alias} for kind, alias in rows.items()]
        parameters = {"of_kind": of_kind, "new_alias": new_alias, "old_kinds": old_kinds, "unused": object()}
        parameters |= {f"event_{name}": value for name, value in event.items()}
        any_database.write(lambda connection: together.execute(connection, parameters | {"alias_counters": values}))
        query = select(counters.kind, counters.next_alias).where(counters.scope_id == scope)
        stored = any_database.read(lambda connection: connection.execute(query).all())
        return {row.kind: row.next_alias for row in stored}

    assert write("", 0, [], a=1, b=2, c=3) == {"a": 1, "b": 2, "c": 3}
    assert write("c", 9, ["b"], a=5, d=2**31 - 1) == {"a": 5, "c": 9, "d": 2**31 - 1}
    assert write("a", 6, ["c", "d", "e"]) == {"a": 6}
    written = select(JsonVerbatim(outbox.c.payload)).where(outbox.c.object_id == scope)
    payloads = any_database.read(lambda connection: connection.execute(written).scalars().all())
    assert payloads == ['{"b":1.0}'] * 3


def test_inserted_rows_keep_every_value(any_database: Database) -> None:
    at = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    row = {
        "id": str(uuid.uuid4()),
        "root_id": ID,
        "object_type": "diagram",
        "object_id": str(uuid.uuid4()),
        "version": 7,
        "change_type": "updated",
        "actor_email": "",
        "actor_provider": "tmi",
        "actor_provider_id": 'it\'s "quoted" \\ 100% :name \u2028 😀',
        "actor_display_name": "null",
        "change_summary": None,
        "before": b'{"z":1.50,"a":[ 1e2,"\\u0000"]}',
        "created_at": at,
    }
    empty = {**row, "id": str(uuid.uuid4()), "before": None, "change_summary": "[1]"}
    insert = WriteTogether(InsertRows(audit_entries, list(row)))
    any_database.write(lambda connection: insert.execute(connection, {"audit_entries": [row, empty]}))
    query = select(*audit_entries.c, JsonVerbatim(audit_entries.c.before).label("text")).where(
        audit_entries.c.object_id == row["object_id"]
    )
    stored = any_database.read(
        lambda connection: {found["id"]: dict(found) for found in connection.execute(query).mappings()}
    )
    assert isinstance(row["before"], bytes)
    assert stored[row["id"]] == row | {"text": row["before"].decode(), "before": orjson.loads(row["before"])}
    assert stored[empty["id"]] == empty | {"text": None}


def test_an_inserted_row_with_a_key_that_exists_is_an_error(any_database: Database) -> None:
    insert = WriteTogether(InsertRows(alias_counters, ["scope_id", "kind", "next_alias"]))
    row = {"scope_id": str(uuid.uuid4()), "kind": "a", "next_alias": 1}
    with pytest.raises(IntegrityError):
        any_database.write(lambda connection: insert.execute(connection, {"alias_counters": [row, row]}))


def test_an_insert_does_not_answer_with_a_subquery() -> None:
    with pytest.raises(ValueError, match="other tables"):
        WriteReturning(DIAGRAMS.table.insert(), DIAGRAMS.document, DIAGRAMS.table.c.id)
