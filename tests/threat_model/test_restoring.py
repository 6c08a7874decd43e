from typing import Any

import pytest
from sqlalchemy import select

from services.threat_model.audit.tables import audit_entries
from tests.threat_model.api import Api, new_user, node
from tests.threat_model.test_assets import asset
from tests.threat_model.test_authorization_list import entry, known

CELL = "6d5ef7b2-0000-4000-8000-000000000001"


def entries_of(api: Api, object_id: str) -> list[Any]:
    query = (
        select(audit_entries.c.change_type, audit_entries.c.version)
        .where(audit_entries.c.object_id == object_id)
        .order_by(audit_entries.c.version)
    )
    return [tuple(row) for row in api.database.read(lambda c: c.execute(query).all())]


@pytest.mark.parametrize("kind", ["threat", "diagram", "asset"])
def test_a_child_comes_back_as_it_was(any_api: Api, kind: str) -> None:
    tm = any_api.new_threat_model()["id"]
    child = {
        "threat": lambda: any_api.threat(tm),
        "diagram": lambda: any_api.diagram(tm, node(CELL)),
        "asset": lambda: asset(any_api, tm),
    }[kind]()
    scope = {"threat_model_id": tm, f"{kind}_id": child["id"]}
    live = any_api.refusal("Restore", **scope)
    assert (live.status, live.code) == (409, "conflict")
    getattr(any_api, f"Delete{kind.title()}")(**scope)
    restored = any_api.Restore(**scope)
    got = getattr(any_api, f"Get{kind.title()}")(**scope)
    assert (restored.status, restored.raw) == (200, got.raw)
    assert got.version == child["version"] + 2
    changed = ("version", "modified_at")
    assert got.body == child | {name: got.body[name] for name in changed}
    assert entries_of(any_api, child["id"])[-2:] == [
        ("deleted", child["version"] + 1),
        ("restored", child["version"] + 2),
    ]


def test_a_threat_model_comes_back_with_what_was_deleted_with_it(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    gone_before = any_api.threat(tm)
    any_api.DeleteThreat(threat_model_id=tm, threat_id=gone_before["id"])
    children = [any_api.threat(tm), any_api.diagram(tm, node(CELL)), asset(any_api, tm)]
    before = any_api.GetThreatModel(threat_model_id=tm).body
    any_api.DeleteThreatModel(threat_model_id=tm)
    restored = any_api.Restore(threat_model_id=tm)
    assert restored.raw == any_api.GetThreatModel(threat_model_id=tm).raw
    assert restored.body["version"] == before["version"] + 2
    for plural in ("threats", "diagrams", "assets"):
        assert [each["id"] for each in restored.body[plural]] == [each["id"] for each in before[plural]]
    assert gone_before["id"] not in {each["id"] for each in restored.body["threats"]}
    for child in children:
        assert [change for change, _ in entries_of(any_api, child["id"])][-2:] == ["deleted", "restored"]
    assert any_api.refusal("Restore", threat_model_id=tm).status == 409


def test_a_child_of_a_deleted_threat_model_is_not_restored_alone(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    threat = api.threat(tm)
    api.DeleteThreatModel(threat_model_id=tm)
    assert api.refusal("Restore", threat_model_id=tm, threat_id=threat["id"]).status == 404


def test_only_owners_restore(api: Api) -> None:
    writer = known(api, "writer")
    tm = api.new_threat_model(authorization=[entry(writer, "writer")])["id"]
    threat = api.threat(tm)
    scope = {"threat_model_id": tm, "threat_id": threat["id"]}
    api.DeleteThreat(**scope)
    for caller in (writer, new_user()):
        assert api.as_caller(caller).refusal("Restore", **scope).status == 403
    api.DeleteThreatModel(threat_model_id=tm)
    for caller in (writer, new_user()):
        assert api.as_caller(caller).refusal("Restore", threat_model_id=tm).status == 403
    assert api.refusal("Restore", threat_model_id="6d5ef7b2-0000-4000-8000-0000000000ee").status == 404


def test_every_row_that_a_deletion_touches_has_an_entry_of_its_own(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram = any_api.diagram(tm, node(CELL))
    pointing = [any_api.threat(tm, diagram_id=diagram["id"], cell_id=CELL) for _ in range(3)]
    any_api.DeleteDiagram(threat_model_id=tm, diagram_id=diagram["id"])
    for threat in pointing:
        assert entries_of(any_api, threat["id"]) == [("created", 1), ("updated", 2)]
    any_api.DeleteThreatModel(threat_model_id=tm)
    for threat in pointing:
        assert entries_of(any_api, threat["id"])[-1] == ("deleted", 3)
    assert entries_of(any_api, diagram["id"])[-1] == ("deleted", 3)
