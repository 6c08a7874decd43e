from collections.abc import Iterator

import pytest

from tests.threat_model.api import Api, serving


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
