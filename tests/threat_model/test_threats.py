from typing import Any

import pytest

from tests.threat_model.api import Api, new_user, node

FULL: dict[str, Any] = {
    "name": "Basket price is changed in transit & it's < cost",
    "description": "First line\nsecond line",
    "threat_type": ["Tampering", "Spoofing"],
    "severity": "High",
    "priority": "IMMEDIATE",
    "status": "Mitigation Planned",
    "score": 7.5,
    "mitigated": True,
    "mitigation": "Sign the basket",
    "issue_uri": "https://issues.example.com/SHOP-1",
    "cwe_id": ["CWE-345"],
    "cvss": [{"vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "score": 9.8}],
    "ssvc": {"vector": "SSVCv2/E:A/U:S/T:T/P:S/2026-04-08/", "decision": "immediate", "methodology": "Deployer"},
    "metadata": [{"key": "b", "value": "2"}, {"key": "a", "value": "1"}],
    "include_in_report": False,
    "timmy_enabled": False,
}


def test_a_threat_is_stored_whole_and_answered_as_get_answers_it(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    created = any_api.CreateThreat(FULL, threat_model_id=tm)
    got = any_api.GetThreat(threat_model_id=tm, threat_id=created.body["id"])
    assert created.raw == got.raw
    assert created.headers["location"] == f"/threat_models/{tm}/threats/{created.body['id']}"
    assert created.headers["etag"] == got.headers["etag"] == '"1"'
    assert got.body == FULL | {
        "severity": "high",
        "priority": "immediate",
        "status": "mitigation_planned",
        "ssvc": FULL["ssvc"] | {"decision": "Immediate"},
        "metadata": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}],
        "auto_generated": False,
        "version": 1,
        "alias": 1,
        "threat_model_id": tm,
        "id": created.body["id"],
        "created_at": created.body["created_at"],
        "modified_at": created.body["created_at"],
    }
    assert any_api.GetThreatModel(threat_model_id=tm).body["threats"] == [got.body]


def test_a_minimal_threat_has_defaults_and_no_nulls(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    threat = any_api.CreateThreat(
        {"name": "T", "cwe_id": [], "cvss": [], "description": "", "unknown": 1}, threat_model_id=tm
    ).body
    assert set(threat) == {
        "id", "threat_model_id", "alias", "name", "threat_type", "mitigated", "metadata", "include_in_report",
        "timmy_enabled", "auto_generated", "version", "created_at", "modified_at",
    }  # fmt: skip
    assert (threat["threat_type"], threat["mitigated"], threat["metadata"]) == ([], False, [])
    assert threat["include_in_report"] is threat["timmy_enabled"] is True


def test_client_values_of_server_members_are_not_stored(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    sent = {
        "name": "T",
        "auto_generated": True,
        "version": 9,
        "deleted_at": "2020-01-01T00:00:00Z",
        "threat_model_id": "x",
    }
    threat = any_api.CreateThreat(sent, threat_model_id=tm).body
    assert (threat["auto_generated"], threat["version"], threat["threat_model_id"]) == (False, 1, tm)
    assert "deleted_at" not in threat


@pytest.mark.parametrize("member", ["id", "created_at", "modified_at", "alias"])
def test_read_only_members_are_refused(api: Api, member: str) -> None:
    tm = api.new_threat_model()["id"]
    threat = api.threat(tm)
    for error in (
        api.refusal("CreateThreat", {"name": "T", member: None}, threat_model_id=tm),
        api.refusal("ReplaceThreat", {"name": "T", member: None}, threat_model_id=tm, threat_id=threat["id"]),
    ):
        assert (error.status, error.code) == (400, "invalid_input")
        assert member in error.message


def test_put_replaces_everything(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    threat = any_api.threat(tm, **FULL)
    scope = {"threat_model_id": tm, "threat_id": threat["id"]}
    replaced = any_api.ReplaceThreat({"name": "Only a name"}, **scope)
    assert replaced.raw == any_api.GetThreat(**scope).raw
    assert replaced.version == replaced.body["version"] == 2
    kept = ("id", "alias", "created_at", "threat_model_id", "auto_generated")
    assert {name: replaced.body[name] for name in kept} == {name: threat[name] for name in kept}
    assert replaced.body["modified_at"] > threat["modified_at"]
    assert "severity" not in replaced.body
    assert "cvss" not in replaced.body
    assert replaced.body["metadata"] == []
    assert replaced.body["include_in_report"] is True
    again = any_api.ReplaceThreat(FULL, **scope).body
    assert again == threat | {"version": 3, "modified_at": again["modified_at"]}


def test_patch_reaches_every_writable_member(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    threat = any_api.threat(tm)
    scope = {"threat_model_id": tm, "threat_id": threat["id"]}
    patch = [{"op": "replace", "path": f"/{name}", "value": value} for name, value in FULL.items()]
    patched = any_api.PatchThreat(patch, **scope)
    assert patched.raw == any_api.GetThreat(**scope).raw
    full = any_api.threat(tm, **FULL)
    server_set = ("id", "alias", "created_at", "modified_at", "version")
    assert patched.body == full | {name: patched.body[name] for name in server_set}
    cleared = any_api.PatchThreat(
        [
            {"op": "remove", "path": "/description"},
            {"op": "replace", "path": "/score", "value": None},
            {"op": "add", "path": "/threat_type/-", "value": "DoS"},
            {"op": "test", "path": "/version", "value": 2},
            {"op": "replace", "path": "/score", "value": 3},
            {"op": "copy", "from": "/name", "path": "/mitigation"},
            {"op": "move", "from": "/severity", "path": "/priority"},
        ],
        **scope,
    ).body
    assert "description" not in cleared
    assert "severity" not in cleared
    assert (cleared["score"], cleared["priority"], cleared["mitigation"]) == (3, "high", FULL["name"])
    assert cleared["threat_type"] == [*FULL["threat_type"], "DoS"]


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({"op": "replace", "path": "/id", "value": "x"}, "invalid_input"),
        ({"op": "remove", "path": "/created_at"}, "invalid_input"),
        ({"op": "replace", "path": "/alias", "value": 3}, "invalid_input"),
        ({"op": "add", "path": "/version", "value": 3}, "invalid_input"),
        ({"op": "add", "path": "/unknown", "value": 3}, "invalid_input"),
        ({"op": "replace", "path": "", "value": {}}, "invalid_input"),
        ({"op": "move", "from": "/id", "path": "/name"}, "invalid_input"),
        ({"op": "replace", "path": "/name", "value": 3}, "invalid_input"),
        ({"op": "remove", "path": "/name"}, "invalid_input"),
        ({"op": "replace", "path": "/score", "value": 11}, "invalid_input"),
        ({"op": "replace", "path": "/cvss", "value": {"a": [{}]}}, "invalid_input"),
        ({"op": "test", "path": "/name", "value": "Other"}, "patch_failed"),
        ({"op": "add", "path": "/name/x", "value": 1}, "patch_failed"),
        ({"op": "frobnicate", "path": "/name"}, "invalid_patch"),
    ],
)
def test_a_patch_that_cannot_be_applied_changes_nothing(api: Api, operation: Any, code: str) -> None:
    tm = api.new_threat_model()["id"]
    threat = api.threat(tm)
    scope = {"threat_model_id": tm, "threat_id": threat["id"]}
    error = api.refusal("PatchThreat", [{"op": "replace", "path": "/severity", "value": "low"}, operation], **scope)
    assert (error.status, error.code) == (400, code)
    assert api.GetThreat(**scope).body == threat


def test_a_deleted_threat_is_gone_but_listed_for_owners(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    kept, gone = any_api.threat(tm), any_api.threat(tm)
    answer = any_api.DeleteThreat(threat_model_id=tm, threat_id=gone["id"])
    assert (answer.status, answer.raw) == (204, b"")
    for rpc, body in (("GetThreat", None), ("DeleteThreat", None), ("ReplaceThreat", {"name": "x"})):
        assert any_api.refusal(rpc, body, threat_model_id=tm, threat_id=gone["id"]).status == 404
    assert [t["id"] for t in any_api.ListThreats(threat_model_id=tm).body["threats"]] == [kept["id"]]
    assert [t["id"] for t in any_api.GetThreatModel(threat_model_id=tm).body["threats"]] == [kept["id"]]
    everything = any_api.ListThreats(threat_model_id=tm, include_deleted=True).body
    assert {t["id"]: "deleted_at" in t for t in everything["threats"]} == {kept["id"]: False, gone["id"]: True}
    assert any_api.threat(tm)["alias"] == 3


def test_only_owners_and_administrators_list_deleted_threats(api: Api) -> None:
    writer = new_user("writer")
    api.directory.add(writer)
    entry = {"principal_type": "user", "provider": "tmi", "provider_id": writer.provider_id, "role": "writer"}
    tm = api.new_threat_model(authorization=[entry])["id"]
    assert api.as_caller(writer).refusal("ListThreats", threat_model_id=tm, include_deleted=True).status == 403
    writer.is_administrator = True
    assert api.as_caller(writer).ListThreats(threat_model_id=tm, include_deleted=True).status == 200


def test_references_must_lead_into_the_same_threat_model(any_api: Api) -> None:
    own, other = any_api.new_threat_model()["id"], any_api.new_threat_model()["id"]
    cell_id = "6d5ef7b2-0000-4000-8000-000000000001"
    diagram, empty = any_api.diagram(own, node(cell_id)), any_api.diagram(own)
    foreign = any_api.diagram(other, node(cell_id))
    threat = any_api.threat(own, diagram_id=diagram["id"].upper(), cell_id=cell_id)
    assert (threat["diagram_id"], threat["cell_id"]) == (diagram["id"], cell_id)
    assert any_api.threat(own, cell_id=cell_id)["cell_id"] == cell_id
    not_saved_yet = "6d5ef7b2-0000-4000-8000-00000000000f"
    assert any_api.threat(own, diagram_id=empty["id"], cell_id=not_saved_yet)["cell_id"] == not_saved_yet
    asset = any_api.CreateAsset({"name": "A", "type": "data"}, threat_model_id=own).body["id"]
    assert any_api.threat(own, asset_id=asset)["asset_id"] == asset
    foreign_asset = any_api.CreateAsset({"name": "A", "type": "data"}, threat_model_id=other).body["id"]
    for bad in (
        {"diagram_id": foreign["id"]},
        {"diagram_id": not_saved_yet},
        {"asset_id": foreign_asset},
        {"asset_id": cell_id},
    ):
        error = any_api.refusal("CreateThreat", {"name": "T"} | bad, threat_model_id=own)
        assert (error.status, error.code) == (400, "invalid_input")
        assert next(iter(bad)) in error.message


def test_a_reference_that_went_stale_does_not_block_other_edits(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    cell_id = "6d5ef7b2-0000-4000-8000-000000000001"
    diagram = api.diagram(tm, node(cell_id))
    threat = api.threat(tm, diagram_id=diagram["id"], cell_id=cell_id)
    api.ReplaceDiagram({"name": "D", "type": "DFD-1.0.0", "cells": []}, threat_model_id=tm, diagram_id=diagram["id"])
    body = {"name": "New name", "diagram_id": diagram["id"], "cell_id": cell_id}
    renamed = api.ReplaceThreat(body, threat_model_id=tm, threat_id=threat["id"]).body
    assert (renamed["name"], renamed["cell_id"]) == ("New name", cell_id)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["C", "B", "A 100%"]),
        ({"name": "a 1"}, ["A 100%"]),
        ({"name": "%"}, ["A 100%"]),
        ({"name": "_"}, []),
        ({"description": "FIND"}, ["B"]),
        ({"threat_type": ["Tampering", "x"]}, ["B"]),
        ({"threat_type": ["Tamp"]}, []),
        ({"severity": ["high", "low"]}, ["C", "A 100%"]),
        ({"severity": ["HIGH"]}, ["C"]),
        ({"severity": [" High"]}, ["C"]),
        ({"priority": ["medium"]}, ["B"]),
        ({"priority": ["MEDIUM "]}, ["B"]),
        ({"status": ["open", "Own"]}, ["C", "A 100%"]),
        ({"mitigated": True}, ["B"]),
        ({"mitigated": False}, ["C", "A 100%"]),
        ({"score_gt": 5.0}, ["C"]),
        ({"score_ge": 5.0, "score_le": 5.0}, ["B"]),
        ({"score_eq": 9.5}, ["C"]),
        ({"score_lt": 9.5}, ["B"]),
        ({"severity": ["high"], "mitigated": True}, []),
        (
            {"created_after": "2020-01-01T00:00:00Z", "modified_before": "2999-01-01T00:00:00+02:00"},
            ["C", "B", "A 100%"],
        ),
        ({"created_before": "2020-01-01T00:00:00Z"}, []),
        ({"modified_after": "2999-01-01T00:00:00Z"}, []),
        ({"diagram_id": "6d5ef7b2-0000-4000-8000-000000000001"}, []),
        ({"cell_id": "6D5EF7B2-0000-4000-8000-000000000009"}, ["A 100%"]),
        ({"sort": "name:asc"}, ["A 100%", "B", "C"]),
        ({"sort": "severity:asc"}, ["B", "A 100%", "C"]),
        ({"sort": "severity:desc"}, ["C", "A 100%", "B"]),
        ({"sort": "score:desc"}, ["C", "B", "A 100%"]),
        ({"sort": "priority:asc"}, ["A 100%", "B", "C"]),
        ({"sort": "status:desc"}, ["B", "A 100%", "C"]),
        ({"sort": "alias:asc"}, ["A 100%", "B", "C"]),
        ({"sort": "created_at:asc"}, ["A 100%", "B", "C"]),
        ({"sort": "owner:asc"}, ["C", "B", "A 100%"]),
        ({"sort": "; DROP TABLE threats"}, ["C", "B", "A 100%"]),
        ({"sort": "name:asc", "limit": 1, "offset": 1}, ["B"]),
        ({"offset": 10}, []),
    ],
)
def test_filters_and_sorting(any_api: Api, filters: dict[str, Any], names: list[str]) -> None:
    tm = any_api.new_threat_model()["id"]
    cell_id = "6d5ef7b2-0000-4000-8000-000000000009"
    any_api.diagram(tm, node(cell_id))
    any_api.threat(tm, name="A 100%", severity="low", status="Open", cell_id=cell_id)
    any_api.threat(
        tm, name="B", description="can find me", threat_type=["Tampering", "Spoofing"], priority="medium", score=5,
        mitigated=True, status="closed",
    )  # fmt: skip
    any_api.threat(tm, name="C", severity="high", priority="immediate", score=9.5, status="Own")
    page = any_api.ListThreats(threat_model_id=tm, **filters).body
    assert [threat["name"] for threat in page["threats"]] == names
    assert (page["limit"], page["offset"]) == (filters.get("limit", 20), filters.get("offset", 0))
    paged = "limit" in filters or "offset" in filters
    assert page["total"] == (3 if paged else len(names))
    assert all("metadata" not in threat for threat in page["threats"])


@pytest.mark.parametrize("spelling", ["In Progress", "inProgress", "IN_PROGRESS", " in progress", "in_progress"])
def test_a_filter_takes_every_spelling_that_a_write_takes(any_api: Api, spelling: str) -> None:
    tm = any_api.new_threat_model()["id"]
    written = any_api.threat(tm, status=spelling, severity="CRITICAL", priority="Immediate")
    any_api.threat(tm, status="closed")
    found = any_api.ListThreats(threat_model_id=tm, status=[spelling], priority=["immediate"]).body["threats"]
    assert ([threat["id"] for threat in found], written["status"]) == ([written["id"]], "in_progress")
    replace = [{"op": "replace", "path": "/status", "value": spelling}]
    any_api.PatchThreatModel(replace, threat_model_id=tm)
    assert [model["id"] for model in any_api.ListThreatModels(status=[spelling]).body["threat_models"]] == [tm]


@pytest.mark.parametrize("kind", ["ThreatModel", "Diagram", "Asset", "Threat"])
def test_every_list_can_be_sorted_so_that_what_is_new_comes_first(any_api: Api, kind: str) -> None:
    fields = {} if kind == "ThreatModel" else {"threat_model_id": any_api.new_threat_model()["id"]}
    more = {"Diagram": {"type": "DFD-1.0.0"}, "Asset": {"type": "data"}}.get(kind, {})
    for name in ("b", "C", "a"):
        getattr(any_api, f"Create{kind}")({"name": name} | more, **fields)

    def names(sort: str = "") -> list[str]:
        page = getattr(any_api, f"List{kind}s")(**fields, **({"sort": sort} if sort else {}), limit=3).body
        (items,) = (value for value in page.values() if isinstance(value, list))
        return [item["name"] for item in items]

    assert names("name") == names("name:asc") == ["a", "b", "C"]
    assert names("name:desc") == ["C", "b", "a"]
    for key in ("created_at", "alias", "modified_at"):
        assert names(f"{key}:desc") == ["a", "C", "b"]
        assert names(f"{key}:asc") == ["b", "C", "a"]
    assert names() == names("cells:asc") == (["b", "C", "a"] if kind == "Diagram" else ["a", "C", "b"])


def test_an_unreadable_date_is_refused(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    assert api.refusal("ListThreats", threat_model_id=tm, created_after="yesterday").code == "invalid_input"
