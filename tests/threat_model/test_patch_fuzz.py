"""PATCH at its limits: whatever it holds, it is done or refused. No patch that a client can write answers 500."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.errors import ApiError
from tests.threat_model.api import Api, edge, node
from tests.threat_model.test_assets import asset

A, B, C = (f"6d5ef7b2-0000-4000-8000-00000000000{i}" for i in "abc")

texts = st.sampled_from(
    ["", "x", "High", "in progress", "a\x00b", "\x7f", "\u202e", "é" * 300, A, B.upper()]
) | st.text(max_size=6)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "value", "svg", "position", "color", "provider", "email", "role", "x", "cell"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
cells = st.lists(
    st.sampled_from([node(A), node(B, parent=A), edge(C, A, B), node(A, x=None), {"id": A}, None]), max_size=4
)
right: dict[str, st.SearchStrategy[Any]] = {
    "name": texts,
    "cells": cells,
    "metadata": st.lists(st.fixed_dictionaries({"key": texts, "value": texts}), max_size=3),
    "threat_type": st.lists(texts, max_size=3),
    "score": st.floats(allow_nan=False) | st.integers(-1, 11),
    "image": st.fixed_dictionaries({}, optional={"svg": texts, "update_vector": st.integers(-1, 2**64 - 1)}),
    "color_palette": st.lists(st.fixed_dictionaries({"position": st.integers(0, 9), "color": texts}), max_size=3),
    "authorization": st.lists(
        st.fixed_dictionaries(
            {"principal_type": st.sampled_from(["user", "group"]), "provider": texts, "role": texts},
            optional={"provider_id": texts, "email": texts},
        ),
        max_size=2,
    ),
}


def pointers(members: list[str]) -> st.SearchStrategy[str]:
    deeper = st.lists(st.sampled_from(["0", "1", "-", "key", "data", "x", "attrs", "~1", "", "01"]), max_size=3)
    below = st.tuples(st.sampled_from([*members, "", "unknown"]), deeper)
    return st.just("") | below.map(lambda parts: "".join(f"/{part}" for part in (parts[0], *parts[1])))


def patches(members: list[str]) -> st.SearchStrategy[Any]:
    path = pointers(members)
    wild = st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": path},
        optional={"from": path, "value": values},
    )
    fitting = st.sampled_from([name for name in members if name in right]).flatmap(
        lambda name: st.fixed_dictionaries(
            {"op": st.sampled_from(["add", "replace", "test"]), "path": st.just(f"/{name}"), "value": right[name]}
        )
    )
    return st.lists(wild | fitting, max_size=5)


@pytest.mark.parametrize("kind", ["ThreatModel", "Threat", "Asset", "Diagram"])
def test_no_patch_is_an_internal_error(any_api: Api, kind: str) -> None:
    tm = any_api.new_threat_model()["id"]
    fields = {"threat_model_id": tm}
    if kind == "Threat":
        fields["threat_id"] = any_api.threat(tm, threat_type=["Spoofing"])["id"]
    elif kind == "Asset":
        fields["asset_id"] = asset(any_api, tm)["id"]
    elif kind == "Diagram":
        fields["diagram_id"] = any_api.diagram(tm, node(A), node(B), edge(C, A, B))["id"]
    rpc = getattr(any_api, f"Patch{kind}")
    members = [*getattr(any_api, f"Get{kind}")(**fields).body, "security_reviewer", "project_id", "description"]

    @settings(max_examples=150)
    @given(patches(members))
    def probe(patch: Any) -> None:
        try:
            answer = rpc(orjson.dumps(patch), **fields)
        except ApiError as error:
            assert error.status < 500, patch  # noqa: PT017
        else:
            assert answer.body == getattr(any_api, f"Get{kind}")(**fields).body

    probe()


def test_a_test_of_the_whole_object_sees_all_of_it(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    threat = any_api.threat(tm, description="D", metadata=[{"key": "k", "value": "v"}])
    at = {"threat_model_id": tm, "threat_id": threat["id"]}
    rename = {"op": "replace", "path": "/name", "value": "N"}
    renamed = any_api.PatchThreat([{"op": "test", "path": "", "value": threat}, rename], **at).body
    assert (renamed["name"], renamed["version"]) == ("N", 2)
    assert any_api.refusal("PatchThreat", [{"op": "test", "path": "", "value": threat}, rename], **at).status == 400


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "copy", "from": "", "path": ""},
        {"op": "copy", "from": "/name", "path": ""},
        {"op": "copy", "from": "", "path": "/name"},
        {"op": "move", "from": "/name", "path": ""},
        {"op": "move", "from": "", "path": "/name"},
        {"op": "add", "path": "", "value": {"name": "N"}},
        {"op": "remove", "path": ""},
        {"op": "test", "path": "", "value": None},
    ],
)
def test_the_whole_object_cannot_be_moved_nor_be_a_member(any_api: Api, operation: Any) -> None:
    tm = any_api.new_threat_model()["id"]
    threat = any_api.threat(tm)
    at = {"threat_model_id": tm, "threat_id": threat["id"]}
    assert any_api.refusal("PatchThreat", [operation], **at).status == 400
    assert any_api.GetThreat(**at).body == threat


def test_a_patch_makes_no_cell_deeper_or_larger_than_a_put_may(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    diagram = api.diagram(tm, node(A, data={"deep": {}, "large": "x" * 100_000}))
    at = {"threat_model_id": tm, "diagram_id": diagram["id"]}
    nesting = [{"op": "copy", "from": "/cells/0/data/deep", "path": "/cells/0/data/deep/x"}]
    api.PatchDiagram(nesting * 5, **at)
    assert api.refusal("PatchDiagram", nesting * 70, **at).code == "invalid_input"
    growing = [{"op": "copy", "from": "/cells/0/data/large", "path": f"/cells/0/data/x{i}"} for i in range(2)]
    assert api.refusal("PatchDiagram", growing, **at).code == "invalid_input"
    whole = {"op": "copy", "from": "", "path": "/cells/0/data/all"}
    assert api.PatchDiagram([whole], **at).body["cells"][0]["data"]["all"]["id"] == diagram["id"]
