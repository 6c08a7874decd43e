"""Several rows in one request: all or none, each as its own operation would do it."""

from typing import Any

import pytest
from sqlalchemy import select

from services.threat_model.audit.tables import audit_entries
from tests.threat_model.api import Api
from tests.threat_model.test_assets import asset

UNKNOWN = "6d5ef7b2-0000-4000-8000-0000000000ee"


def test_creating_several_answers_them_in_order(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    names = [f"T{number}" for number in range(20)]
    created = any_api.BulkCreateThreats([{"name": name, "score": 7.5} for name in names], threat_model_id=tm)
    assert created.status == 201
    assert [threat["name"] for threat in created.body] == names
    assert [threat["alias"] for threat in created.body] == list(range(1, 21))
    for threat in created.body:
        assert any_api.GetThreat(threat_model_id=tm, threat_id=threat["id"]).body == threat


def test_creating_several_costs_as_many_statements_as_one(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    with api.statements() as seen:
        api.BulkCreateAssets([{"name": "A", "type": "data"}] * 50, threat_model_id=tm)
    assert len(seen) == 4, "\n\n".join(seen)
    query = select(audit_entries.c.change_type).where(
        audit_entries.c.root_id == tm, audit_entries.c.object_type == "asset"
    )
    assert api.database.read(lambda c: c.execute(query).scalars().all()) == ["created"] * 50


def test_replacing_several(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    first, second = any_api.threat(tm, severity="low"), any_api.threat(tm, description="D")
    items = [{"id": second["id"].upper(), "name": "Second"}, {"id": first["id"], "name": "First"}]
    answer = any_api.BulkReplaceThreats(items, threat_model_id=tm)
    assert (answer.status, [each["id"] for each in answer.body]) == (200, [second["id"], first["id"]])
    assert "severity" not in answer.body[1]
    assert [each["version"] for each in answer.body] == [2, 2]
    for each in answer.body:
        assert any_api.GetThreat(threat_model_id=tm, threat_id=each["id"]).body == each


def test_an_upsert_of_assets_creates_those_whose_ids_nobody_has(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    present = asset(any_api, tm, metadata=[{"key": "kept", "value": "x"}])
    chosen = "0A2B3C4D-0000-4000-8000-00000000ABCD"
    if any_api.database.engine.dialect.name == "sqlite":
        chosen = chosen.replace("0A", "0B")
    items = [{"id": chosen, "name": "New", "type": "data"}, {"id": present["id"], "name": "Old", "type": "service"}]
    answer = any_api.BulkReplaceAssets(items, threat_model_id=tm)
    assert [(each["id"], each["name"], each["version"]) for each in answer.body] == [
        (chosen.lower(), "New", 1),
        (present["id"], "Old", 2),
    ]
    assert answer.body[1]["metadata"] == present["metadata"]
    assert any_api.BulkReplaceAssets(items, threat_model_id=tm).body[0]["version"] == 2


def test_rows_of_another_threat_model_are_not_found_and_nothing_happens(any_api: Api) -> None:
    tm, other = any_api.new_threat_model()["id"], any_api.new_threat_model()["id"]
    own, foreign = any_api.threat(tm), any_api.threat(other)
    foreign_asset, own_asset = asset(any_api, other), asset(any_api, tm)
    rename = [{"op": "replace", "path": "/name", "value": "X"}]
    for id_ in (foreign["id"], UNKNOWN):
        for rpc, body, fields in (
            ("BulkReplaceThreats", [{"id": own["id"], "name": "X"}, {"id": id_, "name": "X"}], {}),
            ("BulkPatchThreats", {"patches": [{"id": own["id"], "operations": rename},
                                              {"id": id_, "operations": rename}]}, {}),
            ("BulkDeleteThreats", None, {"threat_ids": [own["id"], id_]}),
        ):  # fmt: skip
            assert any_api.refusal(rpc, body, threat_model_id=tm, **fields).status == 404
    items = [{"id": each["id"], "name": "X", "type": "data"} for each in (own_asset, foreign_asset)]
    assert any_api.refusal("BulkReplaceAssets", items, threat_model_id=tm).status == 404
    assert any_api.GetThreat(threat_model_id=tm, threat_id=own["id"]).body == own
    assert any_api.GetThreat(threat_model_id=other, threat_id=foreign["id"]).body == foreign
    assert any_api.GetAsset(threat_model_id=tm, asset_id=own_asset["id"]).body == own_asset


def test_patching_several_is_all_or_none(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    first, second = any_api.threat(tm), any_api.threat(tm)

    def patches(severity: Any) -> Any:
        return {
            "patches": [
                {"id": first["id"], "operations": [{"op": "add", "path": "/severity", "value": "High"}]},
                {"id": second["id"], "operations": [{"op": "add", "path": "/severity", "value": severity}]},
            ]
        }

    assert any_api.refusal("BulkPatchThreats", patches(5), threat_model_id=tm).status == 400
    assert any_api.GetThreat(threat_model_id=tm, threat_id=first["id"]).body == first
    answer = any_api.BulkPatchThreats(patches("low"), threat_model_id=tm).body
    assert [(each["id"], each["severity"]) for each in answer] == [(first["id"], "high"), (second["id"], "low")]


def test_deleting_several(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    ids = [any_api.threat(tm)["id"] for _ in range(3)]
    answer = any_api.BulkDeleteThreats(threat_model_id=tm, threat_ids=ids[:2])
    assert answer.body == {"deleted_count": 2, "deleted_ids": ids[:2]}
    assert [threat["id"] for threat in any_api.ListThreats(threat_model_id=tm).body["threats"]] == ids[2:]
    assert any_api.Restore(threat_model_id=tm, threat_id=ids[0]).status == 200


@pytest.mark.parametrize(
    ("rpc", "body"),
    [
        ("BulkCreateThreats", []),
        ("BulkCreateThreats", {}),
        ("BulkCreateThreats", [1]),
        ("BulkCreateThreats", [{"name": "T"}] * 21),
        ("BulkCreateThreats", [{"name": "T"}, {"name": ""}]),
        ("BulkCreateThreats", [{"name": "T", "id": UNKNOWN}]),
        ("BulkReplaceThreats", [{"name": "T"}]),
        ("BulkReplaceThreats", [{"id": "x", "name": "T"}]),
        ("BulkReplaceThreats", [{"id": UNKNOWN, "name": "T"}] * 2),
        ("BulkPatchThreats", {"patches": []}),
        ("BulkPatchThreats", {"patches": [{"id": UNKNOWN, "operations": []}]}),
        ("BulkPatchThreats", {"patches": [{"id": UNKNOWN}]}),
        ("BulkPatchThreats", [{"id": UNKNOWN}]),
        ("BulkCreateAssets", [{"name": "A", "type": "data"}] * 51),
    ],
)
def test_bad_bodies_change_nothing(api: Api, rpc: str, body: Any) -> None:
    tm = api.new_threat_model()["id"]
    error = api.refusal(rpc, body, threat_model_id=tm)
    assert (error.status, error.code) in ((400, "invalid_input"), (400, "invalid_patch"))
    document = api.GetThreatModel(threat_model_id=tm).body
    assert (document["threats"], document["assets"]) == ([], [])
