from typing import Any

import pytest

from tests.threat_model.api import Api

FULL: dict[str, Any] = {
    "name": "Card numbers & names",
    "description": "What payment needs",
    "type": "data",
    "criticality": "high",
    "classification": ["PCI", "personal"],
    "sensitivity": "secret",
    "metadata": [{"key": "b", "value": "2"}, {"key": "a", "value": "1"}],
    "include_in_report": False,
    "timmy_enabled": False,
}


def asset(api: Api, threat_model_id: str, **members: Any) -> Any:
    return api.CreateAsset({"name": "Asset", "type": "data"} | members, threat_model_id=threat_model_id).body


def test_an_asset_is_stored_whole_and_answered_as_get_answers_it(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    created = any_api.CreateAsset(FULL | {"alias": 7, "version": 9}, threat_model_id=tm)
    got = any_api.GetAsset(threat_model_id=tm, asset_id=created.body["id"])
    assert created.raw == got.raw
    assert created.headers["location"] == f"/threat_models/{tm}/assets/{created.body['id']}"
    assert created.headers["etag"] == got.headers["etag"] == '"1"'
    server_set = ("id", "created_at", "modified_at")
    assert got.body == FULL | {name: got.body[name] for name in server_set} | {
        "threat_model_id": tm,
        "alias": 1,
        "version": 1,
        "metadata": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}],
    }
    assert any_api.ListAssets(threat_model_id=tm).body["assets"] == [got.body]
    assert any_api.GetThreatModel(threat_model_id=tm).body["assets"] == [got.body]
    assert any_api.ListThreatModels().body["threat_models"][0]["asset_count"] == 1


def test_put_clears_what_it_does_not_name_except_metadata(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    scope = {"threat_model_id": tm, "asset_id": asset(any_api, tm, **FULL)["id"]}
    put = any_api.ReplaceAsset({"name": "Servers", "type": "Hardware"}, **scope)
    assert put.raw == any_api.GetAsset(**scope).raw
    assert (put.body["type"], put.version) == ("hardware", 2)
    assert not {"description", "criticality", "classification", "sensitivity"} & put.body.keys()
    assert len(put.body["metadata"]) == 2
    assert put.body["include_in_report"] is True
    assert any_api.ReplaceAsset({"name": "S", "type": "data", "metadata": []}, **scope).body["metadata"] == []


def test_patch_reaches_every_writable_member(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    scope = {"threat_model_id": tm, "asset_id": asset(any_api, tm)["id"]}
    patch = [{"op": "add", "path": f"/{name}", "value": value} for name, value in FULL.items()]
    patched = any_api.PatchAsset(patch, **scope)
    assert patched.raw == any_api.GetAsset(**scope).raw
    assert {name: patched.body[name] for name in FULL if name != "metadata"} == {
        name: value for name, value in FULL.items() if name != "metadata"
    }
    cleared = any_api.PatchAsset([{"op": "remove", "path": "/classification"}], **scope).body
    assert "classification" not in cleared


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "people"},
        {"type": None},
        {"name": ""},
        {"classification": ["x"] * 51},
        {"classification": ["x" * 129]},
        {"criticality": "x" * 129},
        {"metadata": [{"key": "a b", "value": "x"}]},
        {"id": "x"},
    ],
)
def test_bad_members_are_refused(api: Api, bad: dict[str, Any]) -> None:
    tm = api.new_threat_model()["id"]
    error = api.refusal("CreateAsset", {"name": "A", "type": "data"} | bad, threat_model_id=tm)
    assert (error.status, error.code) == (400, "invalid_input")
    assert api.ListAssets(threat_model_id=tm).body["total"] == 0


def test_a_deleted_asset_keeps_the_references_of_threats_until_it_is_restored(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    scope = {"threat_model_id": tm, "asset_id": asset(any_api, tm)["id"]}
    threat = any_api.threat(tm, asset_id=scope["asset_id"])
    assert any_api.DeleteAsset(**scope).status == 204
    assert any_api.refusal("GetAsset", **scope).status == 404
    assert any_api.GetThreat(threat_model_id=tm, threat_id=threat["id"]).body == threat
    renamed = any_api.ReplaceThreat(
        {"name": "N", "asset_id": scope["asset_id"]}, threat_model_id=tm, threat_id=threat["id"]
    )
    assert renamed.body["asset_id"] == scope["asset_id"]
    assert any_api.Restore(**scope).body["id"] == scope["asset_id"]
