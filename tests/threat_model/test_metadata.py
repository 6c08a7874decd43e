"""Metadata: one mechanism for owners of every kind."""

from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from services.threat_model.audit.tables import audit_entries
from tests.threat_model.api import Answer, Api, new_user, node
from tests.threat_model.test_assets import asset
from tests.threat_model.test_authorization_list import entry, known
from tests.threat_model.test_diagrams import begin_session

CELL = "6d5ef7b2-0000-4000-8000-000000000001"


@dataclass
class Owner:
    """An object with metadata: its kind, the fields that name it, and the RPC that reads it."""

    kind: str
    fields: dict[str, str]
    read: str

    def version(self, api: Api) -> int:
        return getattr(api, self.read)(**self.fields).version  # type: ignore[no-any-return]


def owner(api: Api, kind: str, **model: Any) -> Owner:
    tm = api.new_threat_model(**model)["id"]
    fields = {"threat_model_id": tm}
    if kind == "threat":
        fields["threat_id"] = api.threat(tm)["id"]
    elif kind == "diagram":
        fields["diagram_id"] = api.diagram(tm, node(CELL))["id"]
    elif kind == "asset":
        fields["asset_id"] = asset(api, tm)["id"]
    return Owner(kind, fields, "Get" + kind.title().replace("_", ""))


every_kind = pytest.mark.parametrize("kind", ["threat_model", "threat", "diagram", "asset"])


@every_kind
def test_an_entry_is_created_read_changed_and_removed(any_api: Api, kind: str) -> None:
    it = owner(any_api, kind)
    first = it.version(any_api)
    created = any_api.CreateMetadata({"key": "team.owner:x_1", "value": "A & B <c>"}, **it.fields)
    assert (created.status, created.body) == (201, {"key": "team.owner:x_1", "value": "A & B <c>"})
    any_api.CreateMetadata({"key": "a", "value": "1"}, **it.fields)
    assert [each["key"] for each in any_api.ListMetadata(**it.fields).body] == ["a", "team.owner:x_1"]
    assert any_api.GetMetadata(key="a", **it.fields).body == {"key": "a", "value": "1"}
    replaced = any_api.ReplaceMetadata({"value": "2"}, key="a", **it.fields)
    assert (replaced.status, replaced.body) == (200, {"key": "a", "value": "2"})
    assert any_api.ReplaceMetadata({"key": "a", "value": "3"}, key="a", **it.fields).body["value"] == "3"
    removed = any_api.DeleteMetadata(key="a", **it.fields)
    assert (removed.status, removed.raw) == (204, b"")
    document = getattr(any_api, it.read)(**it.fields)
    assert document.body["metadata"] == [{"key": "team.owner:x_1", "value": "A & B <c>"}]
    assert document.version == first + 5
    for rpc, body in (("GetMetadata", None), ("ReplaceMetadata", {"value": "2"}), ("DeleteMetadata", None)):
        assert any_api.refusal(rpc, body, key="a", **it.fields).status == 404


@every_kind
def test_several_entries_at_once(any_api: Api, kind: str) -> None:
    it = owner(any_api, kind)
    a, b, c = ({"key": key, "value": key} for key in "abc")
    created = any_api.BulkCreateMetadata([b, a], **it.fields)
    assert (created.status, created.body) == (201, [a, b])
    taken = any_api.refusal("BulkCreateMetadata", [c, a], **it.fields)
    assert (taken.status, taken.code) == (409, "conflict")
    assert any_api.ListMetadata(**it.fields).body == [a, b]
    changed = a | {"value": "new"}
    upserted = any_api.BulkUpsertMetadata([c, changed], **it.fields)
    assert (upserted.status, upserted.body) == (200, [changed, b, c])
    assert any_api.BulkReplaceMetadata([c], **it.fields).body == [c]
    assert any_api.BulkReplaceMetadata([], **it.fields).body == []


@pytest.mark.parametrize(
    ("rpc", "body"),
    [
        ("CreateMetadata", {"key": "a"}),
        ("CreateMetadata", {"key": "", "value": "x"}),
        ("CreateMetadata", {"key": "a/b", "value": "x"}),
        ("CreateMetadata", {"key": "a", "value": ""}),
        ("CreateMetadata", {"key": "a", "value": "x" * 1025}),
        ("CreateMetadata", {"key": "a", "value": "x", "more": 1}),
        ("CreateMetadata", [{"key": "a", "value": "x"}]),
        ("CreateMetadata", b"{"),
        ("ReplaceMetadata", {"value": 5}),
        ("ReplaceMetadata", {"key": "other", "value": "x"}),
        ("BulkCreateMetadata", []),
        ("BulkCreateMetadata", {"key": "a", "value": "x"}),
        ("BulkUpsertMetadata", []),
        ("BulkUpsertMetadata", [{"key": "a", "value": "x"}] * 2),
        ("BulkUpsertMetadata", [{"key": f"k{number}", "value": "x"} for number in range(101)]),
        ("BulkReplaceMetadata", [{"key": "a b", "value": "x"}]),
    ],
)
def test_bad_bodies_change_nothing(api: Api, rpc: str, body: Any) -> None:
    it = owner(api, "threat")
    api.CreateMetadata({"key": "kept", "value": "x"}, **it.fields)
    key = {"key": "kept"} if rpc == "ReplaceMetadata" else {}
    error = api.refusal(rpc, body, **it.fields, **key)
    assert (error.status, error.code) == (400, "invalid_input")
    assert api.ListMetadata(**it.fields).body == [{"key": "kept", "value": "x"}]
    assert it.version(api) == 2


def test_the_number_of_entries_is_bounded(api: Api) -> None:
    it = owner(api, "asset")
    api.BulkCreateMetadata([{"key": f"k{number}", "value": "x"} for number in range(100)], **it.fields)
    assert api.refusal("CreateMetadata", {"key": "one-more", "value": "x"}, **it.fields).status == 400
    assert api.ReplaceMetadata({"value": "y"}, key="k7", **it.fields).status == 200


@every_kind
def test_every_write_is_a_recorded_change_of_its_owner(any_api: Api, kind: str) -> None:
    it = owner(any_api, kind)
    first = it.version(any_api)
    any_api.CreateMetadata({"key": "a", "value": "1"}, **it.fields)
    any_api.ReplaceMetadata({"value": "2"}, key="a", **it.fields)
    query = (
        select(audit_entries.c.object_type, audit_entries.c.version, audit_entries.c.before)
        .where(audit_entries.c.root_id == it.fields["threat_model_id"], audit_entries.c.version > first)
        .order_by(audit_entries.c.id)
    )
    entries = [tuple(row) for row in any_api.database.read(lambda c: c.execute(query).all())]
    assert entries == [
        (kind, first + 1, {"metadata": []}),
        (kind, first + 2, {"metadata": [{"key": "a", "value": "1"}]}),
    ]


def test_if_match_is_about_the_owner(api: Api) -> None:
    it = owner(api, "threat")
    api.CreateMetadata({"key": "a", "value": "1"}, if_match='"1"', **it.fields)
    stale = api.refusal("DeleteMetadata", key="a", if_match='"1"', **it.fields)
    assert (stale.status, stale.code) == (409, "version_mismatch")


def test_metadata_of_a_large_diagram_neither_reads_nor_writes_its_cells(api: Api) -> None:
    it = owner(api, "diagram")
    with api.statements() as seen:
        api.CreateMetadata({"key": "a", "value": "1"}, **it.fields)
        api.ListMetadata(**it.fields)
        api.DeleteMetadata(key="a", **it.fields)
    assert len(seen) == 3 + 1 + 3
    assert not any("diagram_cells" in statement for statement in seen)


def test_a_live_session_does_not_exclude_metadata(any_api: Api) -> None:
    it = owner(any_api, "diagram")
    begin_session(any_api, it.fields["diagram_id"])
    assert any_api.CreateMetadata({"key": "a", "value": "1"}, **it.fields).status == 201


@every_kind
def test_readers_read_and_strangers_do_not(api: Api, kind: str) -> None:
    reader = known(api, "reader")
    it = owner(api, kind, authorization=[entry(reader, "reader")])

    def attempt(caller: Any, rpc: str, body: Any = None, **fields: str) -> int:
        try:
            answer: Answer = getattr(api.as_caller(caller), rpc)(body, **it.fields, **fields)
        except Exception as error:
            return error.status  # type: ignore[attr-defined,no-any-return]
        return answer.status

    assert attempt(reader, "ListMetadata") == 200
    assert attempt(reader, "CreateMetadata", {"key": "a", "value": "1"}) == 403
    assert attempt(new_user(), "ListMetadata") == 403
    assert attempt(new_user(), "DeleteMetadata", key="a") == 403
