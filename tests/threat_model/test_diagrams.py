import base64
from typing import Any

import pytest
from sqlalchemy import select, update

from services.shared import rfc3339
from services.threat_model.audit.tables import audit_entries
from services.threat_model.cells.tables import diagram_cells, diagrams
from tests.threat_model.api import Api, edge, node

A, B, C, D = (f"6d5ef7b2-0000-4000-8000-00000000000{i}" for i in range(1, 5))
SVG = base64.b64encode(b"<svg/>").decode()
BODY = {"name": "Checkout", "type": "DFD-1.0.0"}


def scope(diagram: Any, tm: str) -> dict[str, str]:
    return {"threat_model_id": tm, "diagram_id": diagram["id"]}


def begin_session(api: Api, diagram_id: str) -> None:
    now = rfc3339.now()
    values = {"session_id": D, "session_host": b"", "session_started_at": now, "session_start_vector": 0}
    api.database.write(lambda c: c.execute(update(diagrams).where(diagrams.c.id == diagram_id).values(values)))


def test_a_new_diagram_is_empty(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    created = any_api.CreateDiagram({"name": "A & B <1>", "type": "dfd-1.0.0"}, threat_model_id=tm)
    got = any_api.GetDiagram(**scope(created.body, tm))
    assert created.raw == got.raw
    assert created.headers["location"] == f"/threat_models/{tm}/diagrams/{got.body['id']}"
    server_set = ("id", "created_at", "modified_at")
    assert got.body == {name: got.body[name] for name in server_set} | {
        "name": "A & B <1>",
        "type": "DFD-1.0.0",
        "alias": 1,
        "cells": [],
        "image": {},
        "metadata": [],
        "include_in_report": True,
        "timmy_enabled": True,
        "auto_generated": False,
        "update_vector": 0,
        "version": 1,
    }
    assert any_api.GetThreatModel(threat_model_id=tm).body["diagrams"] == [got.body]


def test_cells_are_kept_as_they_are_and_in_order(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    cells = [
        node(B, zIndex=7, visible=False, markup=[{"tagName": "rect"}], data={"x": {"y": [1, None]}}),
        node(A, position={"x": 0.1, "y": 1e-7}, attrs={"text": {"text": 'é § 日本 "q"', "filter": {"name": "x"}}}),
        edge(C, A, B, labels=[{"attrs": {"text": {"text": "HTTPS"}}, "position": 0.5}], vertices=[{"x": 1, "y": 2}]),
    ]
    diagram = any_api.diagram(tm, *cells)
    assert diagram["cells"] == cells
    assert list(diagram["cells"][0]) == list(cells[0])
    assert any_api.GetDiagram(**scope(diagram, tm)).body == diagram
    assert any_api.GetThreatModel(threat_model_id=tm).body["diagrams"] == [diagram]


def test_update_vector_grows_by_one_when_cells_change_and_only_then(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram = any_api.diagram(tm, node(A), node(B))
    at = scope(diagram, tm)
    assert diagram["update_vector"] == 1
    same = any_api.ReplaceDiagram(BODY | {"cells": [node(A), node(B)], "update_vector": 77}, **at).body
    assert (same["update_vector"], same["version"]) == (1, 3)
    renamed = any_api.PatchDiagram([{"op": "replace", "path": "/name", "value": "N"}], **at).body
    assert (renamed["update_vector"], renamed["version"], renamed["cells"]) == (1, 4, [node(A), node(B)])
    moved = any_api.PatchDiagram([{"op": "replace", "path": "/cells", "value": [node(B), node(C), node(A)]}], **at).body
    assert (moved["update_vector"], [cell["id"] for cell in moved["cells"]]) == (2, [B, C, A])
    edited = any_api.PatchDiagram([{"op": "replace", "path": "/cells/0/position/x", "value": 99}], **at).body
    assert (edited["update_vector"], edited["cells"][0]["position"]) == (3, {"x": 99, "y": 20.5})
    emptied = any_api.PatchDiagram([{"op": "remove", "path": "/cells"}], **at).body
    assert (emptied["update_vector"], emptied["cells"]) == (4, [])


def test_only_differing_cells_are_written(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    diagram = api.diagram(tm, *(node(f"6d5ef7b2-0000-4000-8000-0000000001{i:02}") for i in range(20)))
    query = select(diagram_cells.c.cell_id, diagram_cells.c.position).where(diagram_cells.c.diagram_id == diagram["id"])
    before = api.database.read(lambda c: set(c.execute(query).all()))
    cells = [*diagram["cells"][:5], node(A), *diagram["cells"][6:], node(B)]
    api.ReplaceDiagram(BODY | {"cells": cells}, **scope(diagram, tm))
    after = api.database.read(lambda c: set(c.execute(query).all()))
    assert {cell_id for cell_id, _ in after - before} == {A, B}
    assert api.GetDiagram(**scope(diagram, tm)).body["cells"] == cells


def test_put_clears_what_it_does_not_name_except_metadata(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram = any_api.diagram(tm)
    at = scope(diagram, tm)
    full = BODY | {
        "description": "D <b>",
        "cells": [node(A)],
        "image": {"svg": SVG},
        "color_palette": [{"position": 2, "color": "#ABC"}, {"position": 1, "color": "#001122"}],
        "metadata": [{"key": "k", "value": "v"}],
        "include_in_report": False,
        "timmy_enabled": False,
    }
    put = any_api.ReplaceDiagram(full | {"id": "ignored", "created_at": None, "unknown": 1}, **at)
    assert put.raw == any_api.GetDiagram(**at).raw
    palette = [{"position": 1, "color": "#001122"}, {"position": 2, "color": "#aabbcc"}]
    assert put.body == diagram | full | {
        "image": {"svg": SVG, "update_vector": 1},
        "color_palette": palette,
        "update_vector": 1,
        "version": 2,
        "modified_at": put.body["modified_at"],
    }
    cleared = any_api.ReplaceDiagram(BODY | {"cells": []}, **at).body
    assert "description" not in cleared
    assert "color_palette" not in cleared
    assert (cleared["image"], cleared["metadata"]) == ({}, [{"key": "k", "value": "v"}])
    assert cleared["include_in_report"] is cleared["timmy_enabled"] is True
    assert any_api.ReplaceDiagram(BODY | {"cells": [], "metadata": []}, **at).body["metadata"] == []


def test_an_image_is_patched_and_cleared(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram = any_api.diagram(tm, node(A))
    at = scope(diagram, tm)
    drawn = any_api.PatchDiagram([{"op": "replace", "path": "/image", "value": {"svg": SVG}}], **at).body
    assert drawn["image"] == {"svg": SVG, "update_vector": 1}
    listed = any_api.ListDiagrams(threat_model_id=tm).body["diagrams"][0]
    assert listed["image"] == drawn["image"]
    older = {"svg": SVG, "update_vector": 0}
    assert any_api.PatchDiagram([{"op": "add", "path": "/image", "value": older}], **at).body["image"] == older
    assert any_api.PatchDiagram([{"op": "remove", "path": "/image"}], **at).body["image"] == {}
    marked = any_api.PatchDiagram([{"op": "replace", "path": "/image", "value": {"update_vector": 3}}], **at).body
    assert marked["image"] == {"update_vector": 3}
    assert any_api.PatchDiagram([{"op": "replace", "path": "/image", "value": None}], **at).body["image"] == {}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/type", "value": "BPMN"},
        {"op": "replace", "path": "/cells", "value": {}},
        {"op": "replace", "path": "/cells", "value": [1]},
        {"op": "add", "path": "/cells/-", "value": node(A)},
        {"op": "add", "path": "/cells/-", "value": node(B, shape="cloud")},
        {"op": "replace", "path": "/image", "value": {"svg": "!"}},
        {"op": "replace", "path": "/update_vector", "value": 5},
        {"op": "replace", "path": "/alias", "value": 5},
        {"op": "add", "path": "/cells/0/data", "value": []},
    ],
)
def test_a_refused_patch_changes_nothing(api: Api, operation: Any) -> None:
    tm = api.new_threat_model()["id"]
    diagram = api.diagram(tm, node(A))
    assert api.refusal("PatchDiagram", [operation], **scope(diagram, tm)).status == 400
    assert api.GetDiagram(**scope(diagram, tm)).body == diagram


def test_cells_nested_too_deeply_are_refused(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    diagram = api.diagram(tm)
    deep = b"[" * 500 + b"]" * 500
    body = b'{"name":"D","type":"DFD-1.0.0","cells":[{"id":"%b","shape":"actor","data":{"x":%b}}]}' % (A.encode(), deep)
    error = api.refusal("ReplaceDiagram", body, **scope(diagram, tm))
    assert (error.status, error.code) == (400, "invalid_input")


def test_what_a_client_leaves_in_a_cell_keeps_no_diagram_from_being_saved(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    left = [{"key": "_originalStroke", "value": None}, {"key": "tier", "value": "web"}]
    diagram = any_api.diagram(tm, node(A, data={"_metadata": left}), edge(C, A.upper(), A, labels=["TLS"]))
    kept = node(A, data={"_metadata": left[1:]})
    assert diagram["cells"] == [kept, edge(C, A, A, labels=[{"attrs": {"text": {"text": "TLS"}}}])]
    at = scope(diagram, tm)
    add = {"op": "add", "path": "/cells/-", "value": node(B, parent=A.upper(), data={"_metadata": left[:1]})}
    patched = any_api.PatchDiagram([add], **at).body
    assert patched["cells"][2] == node(B, parent=A, data={"_metadata": []})
    again = any_api.ReplaceDiagram(any_api.GetDiagram(**at).body, **at).body
    assert (again["cells"], again["update_vector"]) == (patched["cells"], patched["update_vector"])


def test_a_live_session_excludes_rest_writes(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram = any_api.diagram(tm, node(A))
    begin_session(any_api, diagram["id"])
    writes: list[tuple[str, Any]] = [
        ("ReplaceDiagram", BODY | {"cells": []}),
        ("PatchDiagram", [{"op": "replace", "path": "/name", "value": "x"}]),
        ("DeleteDiagram", None),
    ]
    refusals = [any_api.refusal(rpc, body, **scope(diagram, tm)) for rpc, body in writes]
    refusals.append(any_api.refusal("DeleteThreatModel", threat_model_id=tm))
    for error in refusals:
        assert (error.status, error.code) == (409, "conflict")
        assert "collaboration session is active" in error.message
    assert any_api.GetDiagram(**scope(diagram, tm)).body == diagram
    assert any_api.threat(tm)["alias"] == 1


def test_deleting_a_diagram_frees_the_threats_that_point_at_it(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram, other = any_api.diagram(tm, node(A)), any_api.diagram(tm)
    pointing = any_api.threat(tm, diagram_id=diagram["id"], cell_id=A)
    elsewhere = any_api.threat(tm, diagram_id=other["id"])
    assert any_api.DeleteDiagram(**scope(diagram, tm)).status == 204
    assert any_api.refusal("GetDiagram", **scope(diagram, tm)).status == 404
    freed = any_api.GetThreat(threat_model_id=tm, threat_id=pointing["id"]).body
    assert "diagram_id" not in freed
    assert "cell_id" not in freed
    assert freed["version"] == 2
    query = select(audit_entries.c.before, audit_entries.c.version).where(
        audit_entries.c.object_id == pointing["id"], audit_entries.c.change_type == "updated"
    )
    entry = any_api.database.read(lambda c: c.execute(query).one())
    assert (entry.before, entry.version) == ({"diagram_id": diagram["id"], "cell_id": A}, 2)
    assert any_api.GetThreat(threat_model_id=tm, threat_id=elsewhere["id"]).body == elsewhere
    assert any_api.refusal("CreateThreat", {"name": "T", "diagram_id": diagram["id"]}, threat_model_id=tm).status == 400


def test_list_items_are_short_and_oldest_first(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    first, second, third = any_api.diagram(tm, node(A)), any_api.diagram(tm), any_api.diagram(tm)
    any_api.DeleteDiagram(**scope(third, tm))
    page = any_api.ListDiagrams(threat_model_id=tm).body
    assert [item["id"] for item in page["diagrams"]] == [first["id"], second["id"]]
    assert set(page["diagrams"][0]) == {
        "id", "alias", "name", "type", "image", "include_in_report", "timmy_enabled", "created_at", "modified_at",
    }  # fmt: skip
    assert (page["total"], page["limit"], page["offset"]) == (2, 20, 0)
    everything = any_api.ListDiagrams(threat_model_id=tm, include_deleted=True).body["diagrams"]
    assert ["deleted_at" in item for item in everything] == [False, False, True]
    assert any_api.ListDiagrams(threat_model_id=tm, limit=1, offset=1).body["diagrams"][0]["id"] == second["id"]
