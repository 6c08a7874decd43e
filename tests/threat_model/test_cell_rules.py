from typing import Any

import pytest

from services.threat_model.cells.operations import MAX_CELLS
from services.threat_model.cells.rules import check_cells
from tests.threat_model.api import edge, node

A = "6d5ef7b2-0000-4000-8000-00000000000a"
B = "6d5ef7b2-0000-4000-8000-00000000000b"


@pytest.mark.parametrize(
    "cell",
    [
        node(A),
        {"id": A, "shape": "store", "x": 1, "y": 2, "width": 40, "height": 30.0},
        {"id": A, "shape": "text-box"},
        node(A, angle=-12.5, zIndex=3, anything={"goes": [None]}),
        node(A, attrs={"body": {"fill": "#fff", "strokeWidth": 0, "fillOpacity": 1, "refWidth": "50%"}, "own": 1}),
        node(A, attrs={"text": {"text": "", "fontSize": 1, "textAnchor": "middle", "refX": 0.5}}),
        node(A, ports={"groups": {"top": {"position": "top"}}, "items": [{"id": "p", "group": "top", "attrs": {}}]}),
        node(A, parent=None, children=[B], data={"_metadata": [{"key": "k", "value": "v"}], "data_assets": [B]}),
        node(A, parent=B),
        edge(A, B, B, router="manhattan", connector={"name": "jumpover", "args": {"jump": "arc"}}),
        edge(A, A, B, vertices=[], defaultLabel={"attrs": {}}, attrs={"line": {"targetMarker": {"name": "block"}}}),
        edge(A, A, B, labels=[{"position": {"distance": 0.5, "offset": 3}}], source={"cell": B, "port": None}),
    ],
)
def test_cells_that_clients_send_are_accepted_unchanged(cell: dict[str, Any]) -> None:
    assert check_cells([cell]) == [cell]


def test_ids_are_lower_case() -> None:
    assert check_cells([node(A.upper())]) == [node(A)]


@pytest.mark.parametrize(
    ("cell", "where"),
    [
        ("x", "[0]"),
        ({"shape": "actor"}, "[0].id"),
        (node("not-a-uuid"), "[0].id"),
        (node(A, shape="cloud"), "[0].shape"),
        (node(A, shape=["actor"]), "[0].shape"),
        (node(A, size={"width": 39, "height": 30}), "[0].size.width"),
        (node(A, size={"width": 40}), "[0].size.height"),
        (node(A, position=[1, 2]), "[0].position"),
        (node(A, position={"x": "1", "y": 2}), "[0].position.x"),
        (node(A, height=29), "[0].height"),
        (node(A, x=True), "[0].x"),
        (node(A, angle="90"), "[0].angle"),
        (node(A, attrs=[]), "[0].attrs"),
        (node(A, attrs={"text": {"text": "x" * 257}}), "[0].attrs.text.text"),
        (node(A, attrs={"text": {"textAnchor": "left"}}), "[0].attrs.text.textAnchor"),
        (node(A, attrs={"body": {"fillOpacity": 2}}), "[0].attrs.body.fillOpacity"),
        (node(A, attrs={"body": {"refWidth": "wide"}}), "[0].attrs.body.refWidth"),
        (node(A, ports={"items": [{"id": "p"}]}), "[0].ports.items[0].group"),
        (node(A, parent="x"), "[0].parent"),
        (node(A, children=[5]), "[0].children[0]"),
        (node(A, data="x"), "[0].data"),
        (node(A, data={"security_boundary": "yes"}), "[0].data.security_boundary"),
        (node(A, data={"data_assets": []}), "[0].data.data_assets"),
        (node(A, data={"_metadata": [{"key": "k"}]}), "[0].data._metadata[0].value"),
        ({"id": A, "shape": "flow", "source": {"cell": B}}, "[0].target"),
        (edge(A, "x", B), "[0].source.cell"),
        (edge(A, A, B, source={"x": 1, "y": 2}), "[0].source.cell"),
        (edge(A, A, B, router="zigzag"), "[0].router"),
        (edge(A, A, B, connector={"name": "x"}), "[0].connector.name"),
        (edge(A, A, B, vertices=[{"x": 1}]), "[0].vertices[0].y"),
        (edge(A, A, B, labels=[{"position": {}}]), "[0].labels[0].position.distance"),
        (edge(A, A, B, attrs={"line": {"sourceMarker": {"name": "x"}}}), "[0].attrs.line.sourceMarker.name"),
    ],
)
def test_what_no_client_can_mean_is_refused_with_its_place(cell: Any, where: str) -> None:
    with pytest.raises(ValueError, match=r"^\[0\]") as caught:
        check_cells([cell])
    assert str(caught.value).startswith(where + " ")


def test_an_id_occurs_once() -> None:
    with pytest.raises(ValueError, match=r"\[1\]\.id occurs twice"):
        check_cells([node(A), node(A.upper())])


def test_there_are_at_most_ten_thousand_cells() -> None:
    cells = [node(f"6d5ef7b2-0000-4000-8000-{i:012x}") for i in range(MAX_CELLS + 1)]
    assert len(check_cells(cells[1:])) == MAX_CELLS
    with pytest.raises(ValueError, match="at most"):
        check_cells(cells)
