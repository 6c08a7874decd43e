"""What may be stored is bounded by what can be delivered, and refused before it is stored."""

from typing import Any

import pytest
from sqlalchemy import func, select

from services.shared.errors import ApiError
from services.shared.sql_dialect import octets
from services.threat_model.access import entries
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.limits import MAX_ACCESS_ENTRIES, MAX_DIAGRAM_BYTES, MAX_MODEL_BYTES, MAX_MODEL_CELLS_BYTES
from services.threat_model.resources import bounds
from tests.threat_model.api import Api, node
from tests.threat_model.test_assets import asset
from tests.threat_model.test_authorization_list import entry, known

BODY = {"name": "D", "type": "DFD-1.0.0"}
A = "6d5ef7b2-0000-4000-8000-00000000000a"


def large(number: int, text: str = "x" * 200_000) -> list[Any]:
    """Cells of 200 KB."""
    return [node(f"6d5ef7b2-0000-4000-8000-{i:012x}", data={"text": text}) for i in range(number)]


def counted(api: Api, diagram_id: str) -> tuple[int, int]:
    """Bytes of a diagram's cells: as the row says, and as the cells are."""
    stored = select(func.sum(octets(diagram_cells.c.data))).where(diagram_cells.c.diagram_id == diagram_id)
    query = select(diagrams.c.cells_bytes, func.coalesce(stored.scalar_subquery(), 0)).where(
        diagrams.c.id == diagram_id
    )
    told, are = api.database.read(lambda connection: connection.execute(query).one())
    return told, are


def too_large(error: ApiError) -> bool:
    return (error.status, error.code) == (413, "payload_too_large")


def test_a_diagram_has_a_greatest_size(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram = any_api.diagram(tm, *large(20))
    at = {"threat_model_id": tm, "diagram_id": diagram["id"]}
    over = large(MAX_DIAGRAM_BYTES // 200_000 + 1)
    assert too_large(any_api.refusal("ReplaceDiagram", BODY | {"cells": over}, **at))
    assert too_large(any_api.refusal("PatchDiagram", [{"op": "replace", "path": "/cells", "value": over}], **at))
    doubled = [{"op": "copy", "from": f"/cells/{i}/data/text", "path": f"/cells/{i}/data/z"} for i in range(20)]
    assert any_api.refusal("PatchDiagram", doubled, **at).status in (400, 413)
    assert any_api.GetDiagram(**at).body == diagram
    assert any_api.ReplaceDiagram(diagram, **at).body["cells"] == diagram["cells"]


def test_the_row_counts_the_bytes_of_the_cells(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram_id = any_api.diagram(tm)["id"]
    at = {"threat_model_id": tm, "diagram_id": diagram_id}
    assert counted(any_api, diagram_id) == (0, 0)
    for large_ones in (large(3, "é😀" * 35_000), large(2), [], large(1)):
        any_api.ReplaceDiagram(BODY | {"cells": [*large_ones, node(A)]}, **at)
        told, are = counted(any_api, diagram_id)
        assert told == are >= 200_000 * len(large_ones)
    any_api.PatchDiagram([{"op": "add", "path": "/cells/0/name", "value": "日本"}], **at)
    told, are = counted(any_api, diagram_id)
    assert told == are


def test_the_diagrams_of_a_model_have_a_greatest_size(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    cells = large(20)
    fitting = MAX_MODEL_CELLS_BYTES // (20 * 200_200)
    drawn = [api.diagram(tm, *cells)["id"] for _ in range(fitting)]
    last = {"threat_model_id": tm, "diagram_id": api.diagram(tm)["id"]}
    assert too_large(api.refusal("ReplaceDiagram", BODY | {"cells": cells}, **last))
    assert api.GetDiagram(**last).body["cells"] == []
    assert len(api.GetThreatModel(threat_model_id=tm).raw) > 15_000_000
    assert api.PatchThreatModel([{"op": "replace", "path": "/name", "value": "N"}], threat_model_id=tm).status == 200
    first = {"threat_model_id": tm, "diagram_id": drawn[0]}
    api.DeleteDiagram(**first)
    api.ReplaceDiagram(BODY | {"cells": cells}, **last)
    assert too_large(api.refusal("Restore", **first))
    api.ReplaceDiagram(BODY | {"cells": []}, **last)
    assert len(api.Restore(**first).body["cells"]) == 20


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> int:
    """Models may embed 20 KB only."""
    monkeypatch.setattr(bounds, "MAX_MODEL_BYTES", 20_000)
    return 20_000


def test_everything_that_a_model_embeds_counts(any_api: Api, small_models: int) -> None:
    tm = any_api.new_threat_model()["id"]
    scope = {"threat_model_id": tm}
    threats = [any_api.threat(tm, description="d" * 1500)["id"] for _ in range(4)]
    assets = [asset(any_api, tm, description="a" * 1500)["id"] for _ in range(2)]
    diagram_id = any_api.diagram(tm)["id"]
    any_api.threat(tm, description="d" * 2000)  # the last one that fits
    large_threat = {"name": "T", "description": "d" * 2000, "mitigation": "m" * 1000}
    before = any_api.ListThreats(**scope).body
    assert too_large(any_api.refusal("CreateThreat", large_threat, **scope))
    assert too_large(any_api.refusal("BulkCreateThreats", [{"name": "T"}] * 3, **scope))
    assert too_large(any_api.refusal("CreateAsset", {"name": "A", "type": "data", "description": "x" * 2000}, **scope))
    grow = [{"op": "add", "path": "/mitigation", "value": "m" * 1000}] * 1
    more = [{"op": "add", "path": "/metadata", "value": [{"key": str(i), "value": "v" * 1000} for i in range(3)]}]
    assert too_large(any_api.refusal("PatchThreat", grow + more, threat_id=threats[0], **scope))
    assert too_large(any_api.refusal("PatchAsset", more, asset_id=assets[0], **scope))
    assert too_large(any_api.refusal("PatchDiagram", more, diagram_id=diagram_id, **scope))
    assert too_large(any_api.refusal("BulkReplaceMetadata", more[0]["value"], threat_id=threats[0], **scope))
    assert any_api.ListThreats(**scope).body == before


def test_what_became_too_large_can_be_made_smaller_and_restored_when_there_is_room(
    any_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    tm = any_api.new_threat_model()["id"]
    scope = {"threat_model_id": tm}
    first, second = (any_api.threat(tm, description="d" * 2000)["id"] for _ in range(2))
    any_api.DeleteThreat(threat_id=first, **scope)
    monkeypatch.setattr(bounds, "MAX_MODEL_BYTES", 2000)
    assert too_large(any_api.refusal("Restore", threat_id=first, **scope))
    assert too_large(
        any_api.refusal("PatchThreat", [{"op": "add", "path": "/severity", "value": "low"}], threat_id=second, **scope)
    )
    shorter = any_api.PatchThreat([{"op": "replace", "path": "/description", "value": "d"}], threat_id=second, **scope)
    assert shorter.body["description"] == "d"
    any_api.DeleteThreat(threat_id=second, **scope)
    monkeypatch.setattr(bounds, "MAX_MODEL_BYTES", MAX_MODEL_BYTES)
    assert any_api.Restore(threat_id=first, **scope).body["description"] == "d" * 2000


def test_an_answer_that_cannot_be_sent_is_refused_before_anything_is_stored(
    any_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = any_api.new_threat_model()
    tm = model["id"]
    for _ in range(3):
        any_api.threat(tm, description="é" * 500)
    before = any_api.GetThreatModel(threat_model_id=tm)
    monkeypatch.setattr(bounds, "MAX_ANSWER_BYTES", len(before.raw) - 1)
    rename = [{"op": "replace", "path": "/name", "value": "N" * 50}]
    assert too_large(any_api.refusal("PatchThreatModel", rename, threat_model_id=tm))
    assert too_large(any_api.refusal("GetThreatModel", threat_model_id=tm))
    assert len(any_api.ListThreats(threat_model_id=tm, limit=3).body["threats"]) == 3
    monkeypatch.setattr(bounds, "MAX_ANSWER_BYTES", 3000)
    assert too_large(any_api.refusal("ListThreats", threat_model_id=tm, limit=3))
    assert len(any_api.ListThreats(threat_model_id=tm, limit=1).body["threats"]) == 1
    monkeypatch.undo()
    assert any_api.GetThreatModel(threat_model_id=tm).raw == before.raw


def test_a_list_of_who_has_access_has_a_greatest_length(any_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_ACCESS_ENTRIES == 1000
    people = [entry(known(any_api, f"p{i}"), "reader") for i in range(4)]
    model = any_api.new_threat_model(authorization=people[:2])  # and three automatic ones
    monkeypatch.setattr(entries, "MAX_ACCESS_ENTRIES", 5)
    tm = {"threat_model_id": model["id"]}
    add = {"op": "add", "path": "/authorization/-", "value": people[2]}
    assert too_large(any_api.refusal("PatchThreatModel", [add], **tm))
    assert too_large(any_api.refusal("CreateThreatModel", {"name": "M", "authorization": people}))
    put = {"name": "M", "authorization": any_api.GetThreatModel(**tm).body["authorization"]}
    assert len(any_api.ReplaceThreatModel(put, **tm).body["authorization"]) == 5
    monkeypatch.setattr(entries, "MAX_ACCESS_ENTRIES", 3)
    fewer = any_api.PatchThreatModel([{"op": "remove", "path": "/authorization/4"}], **tm).body
    assert len(fewer["authorization"]) == 4
