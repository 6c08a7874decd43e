"""How many SQL statements an operation may cost, authorization included."""

from typing import Any

import pytest

from tests.threat_model.api import OPERATIONS, Api, edge, new_user, node
from tests.threat_model.test_assets import asset
from tests.threat_model.test_authorization_list import entry, known

A, B, C = (f"6d5ef7b2-0000-4000-8000-00000000000{i}" for i in range(1, 4))
MODEL = {"threat_model_id"}
NAME = [{"op": "replace", "path": "/name", "value": "x"}]
STORED = [node(A), node(B), node("6d5ef7b2-0000-4000-8000-00000000000f")]
CELLS = [{"op": "replace", "path": "/cells", "value": [*STORED, edge(C, A, B)]}]
DIAGRAM = {"name": "x", "type": "DFD-1.0.0"}


@pytest.mark.parametrize(
    ("rpc", "body", "budget"),
    [
        ("ListThreatModels", None, 1),
        ("GetThreatModel", None, 1),
        ("CreateThreatModel", {"name": "x"}, 5),
        ("ReplaceThreatModel", {"name": "x"}, 3),
        ("PatchThreatModel", NAME, 3),
        ("DeleteThreatModel", None, 6),  # one for each kind of children among them
        ("CreateMetadata", {"key": "new", "value": "x"}, 3),
        ("BulkReplaceMetadata", [], 3),
        ("ListMetadata", None, 1),
        ("ListThreats", None, 1),
        ("GetThreat", None, 1),
        ("CreateThreat", {"name": "x"}, 4),
        ("CreateThreat", {"name": "x", "cell_id": A}, 5),
        ("ReplaceThreat", {"name": "x"}, 3),
        ("PatchThreat", NAME, 3),
        ("DeleteThreat", None, 3),
        ("ListDiagrams", None, 1),
        ("GetDiagram", None, 1),
        ("CreateDiagram", DIAGRAM, 4),
        ("ReplaceDiagram", DIAGRAM | {"cells": STORED[::-1]}, 4),
        ("ReplaceDiagram", DIAGRAM | {"cells": STORED[:1]}, 5),  # cells that go are forgotten by threats
        ("PatchDiagram", NAME, 3),
        ("PatchDiagram", CELLS, 4),
        ("PatchDiagram", [{"op": "remove", "path": "/cells/0"}], 5),
        ("DeleteDiagram", None, 4),
        ("ListAssets", None, 1),
        ("GetAsset", None, 1),
        ("CreateAsset", {"name": "x", "type": "data"}, 4),
        ("ReplaceAsset", {"name": "x", "type": "data"}, 3),
        ("PatchAsset", NAME, 3),
        ("DeleteAsset", None, 3),
    ],
)
def test_statements_of_an_operation(api: Api, rpc: str, body: Any, budget: int) -> None:
    tm = api.new_threat_model()["id"]
    fields = {"threat_model_id": tm, "threat_id": api.threat(tm)["id"], "diagram_id": ""}
    fields["asset_id"] = asset(api, tm)["id"]
    fields["diagram_id"] = api.diagram(tm, *STORED)["id"]
    named = OPERATIONS[rpc].path_parameters
    with api.statements() as seen:
        api.call(OPERATIONS[rpc], body, **{field: value for field, value in fields.items() if field in named})
    assert len(seen) <= budget, "\n\n".join(seen)


def test_a_threat_model_with_entries_for_others_costs_one_look_up(api: Api) -> None:
    others = [entry(known(api, "bob"), "reader"), entry(known(api, "carol"), "writer")]
    api.new_threat_model(authorization=others)
    with api.statements() as seen:
        api.new_threat_model(authorization=others)
    assert len(seen) <= 6, "\n\n".join(seen)


def test_a_caller_is_written_down_once(api: Api) -> None:
    api.as_caller(new_user())
    with api.statements() as first:
        api.ListThreatModels()
    with api.statements() as second:
        api.ListThreatModels()
    assert (len(first), len(second)) == (2, 1)


def test_reading_does_not_depend_on_the_number_of_children(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    for _ in range(5):
        api.threat(tm)
        api.diagram(tm, node(A), node(B))
    with api.statements() as seen:
        document = api.GetThreatModel(threat_model_id=tm).body
    assert (len(seen), len(document["threats"]), len(document["diagrams"])) == (1, 5, 5)
