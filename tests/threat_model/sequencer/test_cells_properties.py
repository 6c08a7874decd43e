"""Whatever arrives: nothing but OperationRejected is raised, and replaying equals what is stored."""

import contextlib
import copy
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from services.threat_model.cells.cell_set import CellSet
from services.threat_model.cells.operations import OperationRejected, apply_operation, fold

IDS = [f"{digit * 8}-0000-4000-8000-000000000000" for digit in "0123abcd"]

ids = st.sampled_from(IDS)
any_case_ids = ids.flatmap(lambda cell_id: st.sampled_from([cell_id, cell_id.upper()]))
numbers = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ids,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
nodes = st.fixed_dictionaries(
    {"shape": st.sampled_from(["process", "actor", "textbox"])},
    optional={
        "position": st.fixed_dictionaries({"x": numbers, "y": numbers}),
        "size": st.fixed_dictionaries({"width": numbers, "height": numbers}),
        "attrs": st.just({"text": {"text": "t"}}),
        "ports": st.sampled_from([[], [{"id": "top", "group": "top"}], {"groups": {"g": {}}, "items": []}]),
        "parent": any_case_ids | st.none(),
        "children": st.lists(any_case_ids, max_size=3),
        "x": numbers,
        "zIndex": json_values,
    },
)
edges = st.fixed_dictionaries(
    {
        "shape": st.sampled_from(["flow", "edge"]),
        "source": st.fixed_dictionaries({"cell": any_case_ids}),
        "target": st.fixed_dictionaries({"cell": any_case_ids}),
    },
    optional={"labels": st.just([{"position": 0.5}]), "parent": any_case_ids},
)
partials = st.fixed_dictionaries({}, optional={"y": numbers, "data": json_values, "parent": any_case_ids, "k": numbers})
entries = st.one_of(
    st.fixed_dictionaries({"id": any_case_ids, "operation": st.just("add"), "data": nodes | edges}),
    st.fixed_dictionaries({"id": any_case_ids, "operation": st.just("update"), "data": nodes | edges | partials}),
    st.fixed_dictionaries({"id": any_case_ids, "operation": st.just("remove")}),
)
sensible = st.fixed_dictionaries({"type": st.just("patch"), "cells": st.lists(entries, min_size=1, max_size=5)})
keys = st.sampled_from(
    ["id", "shape", "source", "target", "parent", "position", "size", "x", "width", "ports", "angle"]
)
wild_data = st.dictionaries(keys, json_values | ids, max_size=6) | json_values
wild = json_values | st.fixed_dictionaries(
    {
        "type": st.just("patch"),
        "cells": st.lists(
            st.fixed_dictionaries({"id": ids, "operation": st.sampled_from(["add", "update"]), "data": wild_data})
            | json_values,
            max_size=3,
        ),
    }
)
sequences = st.lists(sensible | wild, max_size=12)


def state(cells: CellSet) -> list[tuple[str, dict[str, Any]]]:
    return [(cell["id"], copy.deepcopy(cell)) for cell in cells.in_order()]


@settings(deadline=None)
@given(sequences)
def test_replaying_effective_operations_by_replacement_gives_the_stored_state(operations: list[Any]) -> None:
    cells = CellSet()
    replayed: dict[str, Any] = {}
    for operation in operations:
        before = state(cells)
        try:
            effective = apply_operation(cells, copy.deepcopy(operation))
        except OperationRejected:
            assert state(cells) == before
            continue
        fold(replayed, orjson.loads(orjson.dumps(effective)))
        assert list(replayed.items()) == state(cells)
        assert len(cells) == len(replayed)


@settings(deadline=None)
@given(sequences)
def test_applying_an_effective_operation_again_changes_nothing(operations: list[Any]) -> None:
    cells = CellSet()
    for operation in operations:
        try:
            effective = apply_operation(cells, operation)
        except OperationRejected:
            continue
        kinds = {entry["id"]: set[str]() for entry in effective["cells"]}
        for entry in effective["cells"]:
            kinds[entry["id"]].add(entry["operation"])
        if any(len(seen) > 1 for seen in kinds.values()):
            continue  # added and removed in one message: the place may differ
        before = state(cells)
        apply_operation(cells, copy.deepcopy(effective))
        assert state(cells) == before


@settings(deadline=None)
@given(sequences)
def test_nothing_names_a_node_after_its_removal(operations: list[Any]) -> None:
    cells = CellSet()
    for operation in operations:
        with contextlib.suppress(OperationRejected):
            apply_operation(cells, operation)
    for cell in cells.in_order():
        if cell["shape"] != "flow":
            apply_operation(cells, {"type": "patch", "cells": [{"id": cell["id"], "operation": "remove"}]})
            assert cell["id"].encode() not in orjson.dumps([references(other) for other in cells.in_order()])
    assert all(cell["shape"] == "flow" for cell in cells.in_order())


def references(cell: dict[str, Any]) -> list[Any]:
    return [cell.get(key) for key in ("source", "target", "parent", "children")]
