"""One form of cells behind both doors: REST bodies and collaboration operations."""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.threat_model.cells.normalisation import UnusableCell, merged_cell, normalised_cells
from services.threat_model.limits import MAX_CELL_BYTES, MAX_CELLS
from tests.threat_model.api import edge, node

A = "6d5ef7b2-0000-4000-8000-00000000000a"
B = "6d5ef7b2-0000-4000-8000-00000000000b"

Door = Callable[[Any], Any]


def by_rest(cell: Any) -> Any:
    return normalised_cells([cell])[0]


def by_socket(cell: Any) -> Any:
    return merged_cell(A, cell, None)


both_doors = pytest.mark.parametrize("door", [by_rest, by_socket])


@both_doors
@pytest.mark.parametrize(
    "cell",
    [
        node(A),
        {"id": A, "shape": "text-box"},
        node(A, angle=-12.5, zIndex=3, anything={"goes": [None, "\t\n"]}, size={"width": 40, "height": 30.0}),
        node(A, attrs={"body": {"fill": "#fff", "strokeWidth": "2", "fillOpacity": 7, "refWidth": "wide"}, "own": 1}),
        node(A, attrs={"text": {"text": "x" * 5000, "fontSize": "14", "textAnchor": "left", "refX": None}}),
        node(A, attrs={"text": {"text": "می\u200cخواهم"}, "icon": {"href": "data:image/png;base64,AA=="}}),  # noqa: RUF001
        node(A, ports={"groups": {"top": {"position": "top"}}, "items": [{"id": 7}]}),
        node(A, children=[B], data={"_metadata": [{"key": "k", "value": ""}], "data_assets": [B, "x"]}),
        node(A, parent=B, data={"security_boundary": "yes", "nodeType": None}),
        edge(A, B, B, router="zigzag", connector={"name": "wobble", "args": {"jump": "arc"}}),
        edge(A, A, B, vertices=[], defaultLabel={"attrs": {}}, attrs={"line": {"targetMarker": {"name": ""}}}),
        edge(A, A, B, labels=[{"position": {}}, {"position": "middle"}], source={"cell": B, "port": None}),
        edge(A, A, B, attrs={"line": {"sourceMarker": {"name": "ellipse", "size": -1}, "targetMarker": "block"}}),
        edge(A, A, B, vertices=[{"x": 1, "y": 2.5, "own": True}] * 1500, router=None),
    ],
)
def test_what_harms_nobody_is_kept_as_it_is(door: Door, cell: dict[str, Any]) -> None:
    assert door(copy.deepcopy(cell)) == cell


@both_doors
@pytest.mark.parametrize(
    ("cell", "normal"),
    [
        (node(A.upper(), parent=B.upper(), children=[B.upper()]), node(A, parent=B, children=[B])),
        (edge(A.upper(), A.upper(), B.upper()), edge(A, A, B)),
        (edge(A, A, B, source=B.upper()), edge(A, B, B)),
        (edge(A, A, B, shape="edge"), edge(A, A, B)),
        (node(A, shape="textbox"), node(A, shape="text-box")),
        (node(A, parent=None), node(A)),
        (node(A, parent=""), node(A)),
        (node(A, children=[None, B]), node(A, children=[B])),
        (node(A, attrs=None, data=None, angle=None), node(A)),
        (node(A, size={"width": 3, "height": -4.5}), node(A, size={"width": 40, "height": 30})),
        (node(A, ports=[{"id": "top", "group": "top"}]), node(A)),
        (node(A, data={"data_assets": [], "x": 1}), node(A, data={"x": 1})),
        (node(A, data={"data_assets": None}), node(A, data={})),
        (node(A, attrs={"text": {"text": "\ufeffe\u0301\v"}}), node(A, attrs={"text": {"text": "é"}})),
        (edge(A, A, B, labels="HTTPS"), edge(A, A, B, labels=[{"attrs": {"text": {"text": "HTTPS"}}}])),
        (edge(A, A, B, labels=["TLS", None]), edge(A, A, B, labels=[{"attrs": {"text": {"text": "TLS"}}}])),
    ],
)
def test_what_tools_leave_is_brought_into_one_form(door: Door, cell: Any, normal: Any) -> None:
    assert door(cell) == normal


@both_doors
@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        # What the web client leaves in a shape that was dragged over another one.
        ([{"key": "_originalStroke", "value": None}, {"key": "_originalStrokeWidth", "value": None}], []),
        ([{"key": "tier", "value": "web"}, {"key": "gone"}], [{"key": "tier", "value": "web"}]),
        ([{"key": "n", "value": 4.5}, {"key": "l", "value": ["a", 1]}, {"key": "b", "value": False}],
         [{"key": "n", "value": "4.5"}, {"key": "l", "value": '["a",1]'}, {"key": "b", "value": "false"}]),
        ({"tier": "web", "gone": None, "n": 1}, [{"key": "tier", "value": "web"}, {"key": "n", "value": "1"}]),
        ([None, "x", {"value": "nameless"}, {"key": 5, "value": "x"}], []),
        ("none", []),
        (None, []),
        ([{"key": str(i), "value": "v" * 2000} for i in range(101)],
         [{"key": str(i), "value": "v" * 2000} for i in range(101)]),
    ],
)  # fmt: skip
def test_metadata_of_a_cell_is_keys_with_texts_and_nulls_are_dropped(door: Door, metadata: Any, kept: Any) -> None:
    assert door(node(A, data={"own": 1, "_metadata": metadata})) == node(A, data={"own": 1, "_metadata": kept})
    assert door(edge(A, A, B, data={"_metadata": metadata})) == edge(A, A, B, data={"_metadata": kept})


def test_flat_geometry_stays_flat_by_rest_and_is_nested_for_those_who_draw_with_others() -> None:
    flat = {"id": A, "shape": "store", "x": 1, "y": 2.5, "width": 12, "height": 130}
    assert by_rest(flat) == flat | {"width": 40}
    nested = {
        "id": A,
        "shape": "store",
        "position": {"x": 1, "y": 2.5},
        "size": {"width": 40, "height": 130},
    }
    assert by_socket(flat) == by_socket(by_rest(flat)) == by_rest(nested) == nested


@both_doors
@pytest.mark.parametrize(
    ("cell", "where"),
    [
        (node(A, shape="cloud"), ".shape"),
        (node(A, shape=["actor"]), ".shape"),
        ({"id": A}, ".shape"),
        (node(A, size={"width": 40}), ".size.height"),
        (node(A, position=[1, 2]), ".position"),
        (node(A, position={"x": "1", "y": 2}), ".position.x"),
        (node(A, height="29"), ".height"),
        (node(A, x=True), ".x"),
        ({"id": A, "shape": "actor", "x": 1}, ".y"),
        (node(A, angle="90"), ".angle"),
        (node(A, attrs=[]), ".attrs"),
        (node(A, parent="x"), ".parent"),
        (node(A, children=[B, 5]), ".children[1]"),
        (node(A, data="x"), ".data"),
        (node(A, ports="top"), ".ports"),
        ({"id": A, "shape": "flow", "source": {"cell": B}}, ".target"),
        (edge(A, "x", B), ".source.cell"),
        (edge(A, A, B, source={"x": 1, "y": 2}), ".source.cell"),
        (edge(A, A, B, target=None), ".target"),
        (edge(A, A, B, vertices=[{"x": 1, "y": 1}, {"x": 1}]), ".vertices[1].y"),
        (edge(A, A, B, vertices=[[1, 2]]), ".vertices[0]"),
        (edge(A, A, B, labels=[7]), ".labels[0]"),
        (edge(A, A, B, labels={}), ".labels"),
        (node(A, deep={"text": "a\x00b"}), "must not be stored:"),
        (node(A, **{"na\x1bme": 1}), "must not be stored:"),
        (node(A, attrs={"text": {"text": "gpj.\u202eexe"}}), "must not be stored:"),
        (node(A, deep={"a": 1, "a\u200b": 2}), "must not name a member"),
        (node(A, deep={"n": 2**64}), "must not have integers"),
        (node(A, deep=orjson.loads("[" * 64 + "]" * 64)), "must not be nested"),
        (node(A, data={"x": "é" * (MAX_CELL_BYTES // 2)}), "must not be larger"),
    ],
)
def test_what_nobody_could_draw_or_deliver_is_refused_with_its_place(door: Door, cell: Any, where: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        door(cell)
    assert str(caught.value).removeprefix("[0]").lstrip().startswith(where + " ")


@pytest.mark.parametrize(
    ("cells", "where"),
    [
        (["x"], "[0] must be an object"),
        ([{"shape": "actor"}], "[0].id must"),
        ([node(A), node("not-a-uuid")], "[1].id must"),
        ([node(A), node(A.upper())], "[1].id occurs twice"),
        ([node(A), node(B, deep="\x00")], "[1] must not"),
    ],
)
def test_every_cell_of_a_body_has_an_id_of_its_own(cells: list[Any], where: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        normalised_cells(cells)
    assert str(caught.value).startswith(where)


def test_there_are_at_most_ten_thousand_cells() -> None:
    cells = [node(f"6d5ef7b2-0000-4000-8000-{i:012x}") for i in range(MAX_CELLS + 1)]
    assert len(normalised_cells(cells[1:])) == MAX_CELLS
    with pytest.raises(ValueError, match="at most"):
        normalised_cells(cells)


# --- whatever one door let in, the other one takes -------------------------------------------------

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.just(B.upper()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
numbers = st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False)
metadata = (
    st.lists(st.dictionaries(st.sampled_from(["key", "value"]), json_values, max_size=2), max_size=4) | json_values
)
common = {
    "parent": st.sampled_from([B, B.upper(), "", None]) | json_values,
    "children": st.lists(st.sampled_from([B, B.upper()]), max_size=2) | json_values,
    "angle": numbers | json_values,
    "attrs": st.dictionaries(st.sampled_from(["body", "text", "line"]), json_values, max_size=2),
    "data": st.fixed_dictionaries({}, optional={"_metadata": metadata, "data_assets": json_values, "x": json_values}),
    "zIndex": json_values,
}
nodes = st.fixed_dictionaries(
    {"id": st.sampled_from([A, A.upper()]), "shape": st.sampled_from(["process", "actor", "textbox", "store"])},
    optional=common
    | dict.fromkeys(("x", "y", "width", "height"), numbers)
    | {
        "position": st.fixed_dictionaries({"x": numbers, "y": numbers}) | json_values,
        "size": st.fixed_dictionaries({"width": numbers, "height": numbers}) | json_values,
        "ports": st.lists(json_values, max_size=2) | st.fixed_dictionaries({"groups": json_values}),
    },
)
ends = st.sampled_from([B, {"cell": B}, {"cell": B.upper(), "port": "top"}])
edges = st.fixed_dictionaries(
    {"id": st.just(A), "shape": st.sampled_from(["flow", "edge"]), "source": ends, "target": ends},
    optional=common
    | {
        "labels": st.lists(st.text(max_size=4) | st.just({"position": 0.5}) | st.none(), max_size=3) | json_values,
        "vertices": st.lists(st.fixed_dictionaries({"x": numbers, "y": numbers}), max_size=2) | json_values,
        "connector": json_values,
    },
)


def nested(cell: dict[str, Any]) -> dict[str, Any]:
    """The same cell with the geometry of the graph library."""
    cell = dict(cell)
    for key, axes in (("position", ("x", "y")), ("size", ("width", "height"))):
        if cell["shape"] != "flow" and (flat := {axis: cell.pop(axis) for axis in axes if axis in cell}):
            cell[key] = cell.get(key, {}) | flat
    return cell


@given(nodes | edges)
def test_what_one_door_let_in_the_other_one_takes_unchanged(cell: dict[str, Any]) -> None:
    given = copy.deepcopy(cell)
    with contextlib.suppress(UnusableCell):
        drawn = orjson.loads(orjson.dumps(by_socket(cell)))
        assert by_rest(drawn) == by_socket(drawn) == merged_cell(A, drawn, drawn) == drawn
    with contextlib.suppress(ValueError):
        put = orjson.loads(orjson.dumps(by_rest(cell)))
        assert by_rest(put) == put
        assert by_socket(put) == nested(put)
    assert repr(cell) == repr(given)


@given(nodes | edges)
def test_both_doors_let_in_the_same(cell: dict[str, Any]) -> None:
    def is_let_in(door: Door) -> bool:
        try:
            door(cell)
        except ValueError:
            return False
        return True

    assert is_let_in(by_rest) == is_let_in(by_socket)
