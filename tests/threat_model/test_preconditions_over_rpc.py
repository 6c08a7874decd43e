from collections.abc import Iterator
from typing import Any

import pytest

from tests.threat_model.api import OPERATIONS, Api, serving
from tests.threat_model.test_assets import asset


def test_versions_are_checked_and_bumped_by_every_write(any_api: Api) -> None:
    document = any_api.new_threat_model()
    scope = {"threat_model_id": document["id"]}
    assert any_api.ReplaceThreatModel({"name": "a"}, if_match="1", **scope).version == 2
    assert any_api.ReplaceThreatModel({"name": "a"}, if_match='W/"2"', **scope).version == 3
    assert any_api.PatchThreatModel([{"op": "remove", "path": "/description"}], if_match="*", **scope).version == 4
    stale = any_api.refusal("ReplaceThreatModel", {"name": "b"}, if_match='"3"', **scope)
    assert (stale.status, stale.code) == (409, "version_mismatch")
    malformed = any_api.refusal("ReplaceThreatModel", {"name": "b"}, if_match="abc", **scope)
    assert (malformed.status, malformed.code) == (400, "invalid_if_match")
    got = any_api.GetThreatModel(**scope)
    assert (got.version, got.body["version"], got.body["name"]) == (4, 4, "a")


def one_of_each(api: Api) -> dict[str, dict[str, str]]:
    """A row of every kind with what names it, by the end of its RPCs' names."""
    tm = api.new_threat_model()["id"]
    of_tm = {"threat_model_id": tm}
    return {
        "Threat": of_tm | {"threat_id": api.threat(tm)["id"]},
        "Asset": of_tm | {"asset_id": asset(api, tm)["id"]},
        "Diagram": of_tm | {"diagram_id": api.diagram(tm)["id"]},
        "ThreatModel": of_tm,
    }


def test_there_is_a_case_for_every_resource(any_api: Api) -> None:
    deletable = {name.removeprefix("Get") for name in OPERATIONS if name.replace("Get", "Delete", 1) in OPERATIONS}
    assert {name for name in deletable if f"Replace{name}" in OPERATIONS and name != "Metadata"} == set(
        one_of_each(any_api)
    )


@pytest.mark.parametrize("if_match", ['"1"', 'W/"1-gzip"', "1", '"3"'])
def test_if_match_guards_the_deletion_of_everything(any_api: Api, if_match: str) -> None:
    name = [{"op": "replace", "path": "/name", "value": "Renamed"}]
    for kind, fields in one_of_each(any_api).items():
        assert getattr(any_api, f"Patch{kind}")(name, **fields).version == 2
        stale = any_api.refusal(f"Delete{kind}", if_match=if_match, **fields)
        assert (stale.status, stale.code) == (409, "version_mismatch"), kind
        assert getattr(any_api, f"Get{kind}")(**fields).body["name"] == "Renamed"


@pytest.mark.parametrize("if_match", ['"1"', 'W/"1"', '"1-gzip"', "*"])
def test_what_nobody_has_changed_is_deleted(any_api: Api, if_match: str) -> None:
    for kind, fields in one_of_each(any_api).items():
        assert getattr(any_api, f"Delete{kind}")(if_match=if_match, **fields).status == 204, kind


BODIES: dict[str, dict[str, object]] = {
    "Threat": {"name": "New"},
    "Asset": {"name": "New", "type": "data"},
    "Diagram": {"name": "New", "type": "DFD-1.0.0", "cells": []},
    "ThreatModel": {"name": "New"},
}

NO_VERSIONS: list[Any] = [-1, 0, "2", 2.0, True, "", {}, 1e20]


def test_a_stale_version_in_a_body_is_a_mismatch(any_api: Api) -> None:
    for kind, fields in one_of_each(any_api).items():
        replace = f"Replace{kind}"
        assert getattr(any_api, replace)(BODIES[kind] | {"version": 1}, **fields).version == 2
        for version in (1, 3):
            stale = any_api.refusal(replace, BODIES[kind] | {"version": version}, **fields)
            assert (stale.status, stale.code) == (409, "version_mismatch"), kind
        for wrong in NO_VERSIONS:
            nonsense = any_api.refusal(replace, BODIES[kind] | {"version": wrong}, **fields)
            assert (nonsense.status, nonsense.code) == (400, "invalid_input"), wrong
        assert getattr(any_api, replace)(BODIES[kind] | {"version": 1}, if_match='"2"', **fields).version == 3
        assert getattr(any_api, replace)(BODIES[kind] | {"version": None}, **fields).version == 4


def test_a_stale_version_of_one_item_refuses_the_whole_replacement(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    threats = [any_api.threat(tm)["id"] for _ in range(2)]
    assets = [asset(any_api, tm)["id"] for _ in range(2)]
    for rpc, ids in (("BulkReplaceThreats", threats), ("BulkReplaceAssets", assets)):
        body = BODIES[rpc.removeprefix("BulkReplace").removesuffix("s")]
        items = [body | {"id": id_, "version": 1} for id_ in ids]
        answer = getattr(any_api, rpc)(items, threat_model_id=tm).body
        assert [each["version"] for each in answer] == [2, 2]
        items[0]["version"] = 2
        stale = any_api.refusal(rpc, items, threat_model_id=tm)
        assert (stale.status, stale.code) == (409, "version_mismatch")
        answer = getattr(any_api, rpc)([item | {"version": 2} for item in items], threat_model_id=tm).body
        assert [each["version"] for each in answer] == [3, 3]


@pytest.fixture(scope="module")
def strict_api(_api: Api) -> Iterator[Api]:
    with serving(_api.database, _api.directory, require_if_match=True) as channel:
        yield Api(channel, _api.database, _api.directory)


def test_a_missing_if_match_is_428_where_it_is_required(strict_api: Api) -> None:
    tm = strict_api.new_threat_model()["id"]
    threat = strict_api.threat(tm)["id"]
    name = [{"op": "replace", "path": "/name", "value": "x"}]
    for rpc, body, fields in (
        ("ReplaceThreatModel", {"name": "x"}, {}),
        ("PatchThreatModel", name, {}),
        ("ReplaceThreat", {"name": "x"}, {"threat_id": threat}),
        ("PatchThreat", name, {"threat_id": threat}),
    ):
        error = strict_api.refusal(rpc, body, threat_model_id=tm, **fields)
        assert (error.status, error.code) == (428, "if_match_required")
    assert strict_api.PatchThreat(name, threat_model_id=tm, threat_id=threat, if_match="*").version == 2
    assert strict_api.DeleteThreat(threat_model_id=tm, threat_id=threat).status == 204
