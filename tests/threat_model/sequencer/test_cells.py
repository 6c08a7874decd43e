from typing import Any

import pytest

from services.threat_model.cells.cell_set import Cell, CellSet
from services.threat_model.cells.operations import OperationRejected, apply_operation, fold, named_cells
from services.threat_model.limits import MAX_CELLS

A, B, C, D = (f"{digit * 8}-0000-4000-8000-{digit * 12}" for digit in "abcd")


def node(cell_id: str = A, **keys: Any) -> Cell:
    return {
        "id": cell_id,
        "shape": "process",
        "position": {"x": 1, "y": 2},
        "size": {"width": 140, "height": 60},
        "attrs": {"text": {"text": "Login"}},
    } | keys


def edge(cell_id: str = C, source: str = A, target: str = B, **keys: Any) -> Cell:
    return {"id": cell_id, "shape": "flow", "source": {"cell": source}, "target": {"cell": target}} | keys


def cell_set(*cells: Cell) -> CellSet:
    return CellSet((cell["id"], index, cell) for index, cell in enumerate(cells))


def entry(kind: str, cell_id: str, data: object = ...) -> dict[str, Any]:
    return {"id": cell_id, "operation": kind} | ({} if data is ... else {"data": data})


def patch(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"type": "patch", "cells": list(entries)}


def rejected(cells: CellSet, operation: object) -> OperationRejected:
    before = cells.in_order()
    with pytest.raises(OperationRejected) as caught:
        apply_operation(cells, operation)
    assert cells.in_order() == before
    assert not cells.touched
    return caught.value


def updated(stored: Cell, **data: Any) -> Cell:
    cells = cell_set(stored)
    effective = apply_operation(cells, patch(entry("update", stored["id"], data)))
    merged = cells.get(stored["id"])
    assert merged is not None
    assert effective == patch(entry("update", stored["id"], merged))
    return merged


# --- the message ------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [None, [], "patch", 1])
def test_an_operation_that_is_no_object_is_rejected(operation: object) -> None:
    assert rejected(cell_set(), operation).reason == "validation_failed"


@pytest.mark.parametrize("kind", [None, "", "replace", "PATCH", 1])
def test_another_type_than_patch_is_rejected(kind: object) -> None:
    error = rejected(cell_set(), {"type": kind, "cells": [entry("remove", A)]})
    assert (error.reason, error.requires_resync) == ("invalid_operation_type", False)


def test_an_empty_operation_is_rejected() -> None:
    assert rejected(cell_set(), patch()).reason == "empty_operation"


@pytest.mark.parametrize("cells", [None, {}, "x", [1], [None], [[]]])
def test_entries_that_are_no_objects_are_rejected(cells: object) -> None:
    assert rejected(cell_set(), {"type": "patch", "cells": cells}).reason == "validation_failed"


@pytest.mark.parametrize("cell_id", [None, 7, "", "cell-1", A + "0", A.replace("-", ""), "{" + A + "}"])
def test_an_id_that_is_no_uuid_is_rejected(cell_id: Any) -> None:
    assert rejected(cell_set(), patch(entry("remove", cell_id))).reason == "validation_failed"


@pytest.mark.parametrize("kind", [None, "", "move", "Add", {}])
def test_an_unknown_kind_of_entry_is_rejected(kind: Any) -> None:
    error = rejected(cell_set(), patch(entry(kind, A, node())))
    assert (error.reason, error.affected_cells) == ("validation_failed", [A])


@pytest.mark.parametrize("kind", ["add", "update"])
def test_add_and_update_need_data(kind: str) -> None:
    assert rejected(cell_set(node()), patch(entry(kind, A))).reason == "validation_failed"


# --- add, update, remove ----------------------------------------------------------------------


def test_add_appends_the_cell_as_sent() -> None:
    cells = cell_set(node(A))
    data = node(B, zIndex=3, visible=True, attrs={"icon": {"href": "x"}, "lockBadge": {"display": "none"}})
    assert apply_operation(cells, patch(entry("add", B, data))) == patch(entry("add", B, data))
    assert cells.in_order() == [node(A), data]


def test_add_of_a_cell_that_exists_is_an_update() -> None:
    cells = cell_set(node(A, zIndex=1), node(B))
    effective = apply_operation(cells, patch(entry("add", A, node(A, visible=False))))
    merged = node(A, zIndex=1, visible=False)
    assert effective == patch(entry("update", A, merged))
    assert cells.in_order() == [merged, node(B)]


def test_update_replaces_the_given_keys_whole_and_keeps_the_others_and_the_place() -> None:
    cells = cell_set(node(A, data={"k": 1}, zIndex=4), node(B))
    apply_operation(cells, patch(entry("update", A, {"attrs": {"body": {"fill": "red"}}})))
    assert cells.in_order() == [node(A, data={"k": 1}, zIndex=4, attrs={"body": {"fill": "red"}}), node(B)]


def test_a_drag_message_keeps_label_ports_data_and_parent() -> None:
    stored = node(A, ports={"groups": {}, "items": []}, data={"k": 1}, parent=B)
    drag = {"id": A, "shape": "process", "position": {"x": 9, "y": 9}, "size": {"width": 50, "height": 50}}
    assert updated(stored, **drag) == stored | drag


def test_update_of_an_absent_cell_is_a_conflict_that_requires_resync() -> None:
    error = rejected(cell_set(node(B)), patch(entry("update", A, {"visible": True})))
    assert (error.reason, error.requires_resync, error.affected_cells) == ("conflict_detected", True, [A])


def test_update_of_a_cell_that_somebody_has_just_removed_has_no_effect_and_the_rest_has() -> None:
    cells = cell_set(node(B))
    operation = patch(entry("update", A, {"visible": True}), entry("update", B, {"visible": False}))
    effective = apply_operation(cells, operation, removed={A})
    assert effective == patch(entry("update", B, node(B, visible=False)))
    assert cells.in_order() == [node(B, visible=False)]
    assert apply_operation(cells, patch(entry("update", A, {})), removed={A}) == patch()


def test_remove_of_an_absent_cell_succeeds() -> None:
    assert apply_operation(cell_set(), patch(entry("remove", A))) == patch(entry("remove", A))


def test_an_unchanged_cell_is_a_success() -> None:
    assert updated(node(A)) == node(A)


def test_entries_for_one_cell_are_applied_in_order() -> None:
    cells = cell_set(node(A), node(B))
    effective = apply_operation(
        cells, patch(entry("remove", A), entry("add", A, node(A)), entry("update", A, {"visible": False}))
    )
    assert [item["operation"] for item in effective["cells"]] == ["remove", "add", "update"]
    assert cells.in_order() == [node(B), node(A, visible=False)]  # added anew: at the end


def test_a_batch_takes_effect_wholly_or_not_at_all() -> None:
    cells = cell_set(node(A), node(B), edge(C))
    operation = patch(entry("remove", A), entry("add", D, node(D)), entry("update", C, {"labels": []}))
    assert rejected(cells, operation).affected_cells == [C]  # gone with its node
    assert cells.referrers(A) == [C]
    apply_operation(cells, patch(entry("add", D, node(D))))
    assert cells.position(D) == 3


def test_ids_are_compared_in_lower_case_and_stored_so() -> None:
    cells = cell_set(node(A))
    apply_operation(cells, patch(entry("update", A.upper(), {"id": A.upper(), "parent": B.upper()})))
    apply_operation(cells, patch(entry("add", C.upper(), edge(C.upper(), A.upper(), B.upper()))))
    assert cells.in_order() == [node(A, parent=B), edge(C)]


def test_an_id_is_filled_in_and_a_different_one_is_rejected() -> None:
    cells = cell_set()
    data = node(A)
    del data["id"]
    apply_operation(cells, patch(entry("add", A, data)))
    assert cells.get(A) == node(A)
    assert rejected(cell_set(), patch(entry("add", A, node(B)))).reason == "validation_failed"


def test_a_diagram_has_a_greatest_number_of_cells() -> None:
    cells = CellSet([(A, 0, node(A))], absent=MAX_CELLS - 2)
    assert rejected(cells, patch(entry("add", B, node(B)), entry("add", D, node(D)))).affected_cells == [D]
    apply_operation(cells, patch(entry("add", B, node(B))))
    assert rejected_on_full(cells) == "validation_failed"
    apply_operation(cells, patch(entry("remove", A), entry("add", D, node(D))))


def rejected_on_full(cells: CellSet) -> str:
    with pytest.raises(OperationRejected) as caught:
        apply_operation(cells, patch(entry("add", D, node(D))))
    return caught.value.reason


# --- references -------------------------------------------------------------------------------


def test_removing_a_node_removes_its_edges_and_says_so() -> None:
    cells = cell_set(node(A), node(B), edge(C, A, B), edge(D, B, B))
    effective = apply_operation(cells, patch(entry("remove", A)))
    assert effective == patch(entry("remove", C), entry("remove", A))
    assert cells.in_order() == [node(B), edge(D, B, B)]


def test_what_names_a_removed_edge_forgets_it() -> None:
    named = node(B, children=[A, C])
    cells = cell_set(node(A), named, edge(C), edge(D, C, B))  # an edge may end at an edge
    effective = apply_operation(cells, patch(entry("remove", C)))
    freed = node(B, children=[A])
    assert effective == patch(entry("remove", D), entry("update", B, freed), entry("remove", C))
    assert cells.in_order() == [node(A), freed]


def test_edges_that_end_at_edges_go_with_the_first_of_them_however_many() -> None:
    ids = [f"00000000-0000-4000-8000-{number:012x}" for number in range(3000)]
    chain = [edge(cell_id, end, A) for end, cell_id in zip([C, *ids], ids, strict=False)]
    cells = cell_set(node(A), edge(C, ids[-1], A), *chain)  # a circle
    apply_operation(cells, patch(entry("remove", C)))
    assert cells.in_order() == [node(A)]


def test_a_node_with_ends_is_no_edge() -> None:
    stray = node(B, source={"cell": A})
    cells = cell_set(node(A), stray)
    assert apply_operation(cells, patch(entry("remove", A))) == patch(entry("remove", A))
    assert cells.in_order() == [stray]


def test_removing_an_edge_removes_nothing_else() -> None:
    cells = cell_set(node(A), node(B), edge(C))
    assert apply_operation(cells, patch(entry("remove", C))) == patch(entry("remove", C))
    assert cells.in_order() == [node(A), node(B)]


def test_embedded_cells_of_a_removed_node_stay_without_parent() -> None:
    cells = cell_set(node(A), node(B, parent=A), node(D, children=[A, B]))
    effective = apply_operation(cells, patch(entry("remove", A)))
    assert effective == patch(
        entry("update", B, node(B)), entry("update", D, node(D, children=[B])), entry("remove", A)
    )


def test_an_edge_embedded_in_a_removed_node_stays_when_it_ends_elsewhere() -> None:
    cells = cell_set(node(A), node(B), edge(C, B, B, parent=A))
    apply_operation(cells, patch(entry("remove", A)))
    assert cells.in_order() == [node(B), edge(C, B, B)]


def test_edges_of_the_same_message_go_with_their_node() -> None:
    cells = cell_set(node(A), node(B))
    effective = apply_operation(cells, patch(entry("add", C, edge()), entry("remove", A)))
    assert effective["cells"][1:] == [entry("remove", C), entry("remove", A)]


def test_a_node_that_names_itself_can_be_removed() -> None:
    cells = cell_set(node(A, parent=A))
    assert apply_operation(cells, patch(entry("remove", A))) == patch(entry("remove", A))
    assert len(cells) == 0


# --- acceptance of one cell -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [None, "", "circle", 5, [], "Process"])
def test_an_unknown_shape_is_rejected(shape: object) -> None:
    assert rejected(cell_set(), patch(entry("add", A, node(A, shape=shape)))).reason == "validation_failed"


def test_a_cell_without_shape_cannot_be_added() -> None:
    assert rejected(cell_set(), patch(entry("add", A, {"id": A}))).reason == "validation_failed"


def test_legacy_shapes_are_renamed() -> None:
    cells = cell_set()
    apply_operation(
        cells,
        patch(entry("add", C, edge(C, shape="edge")), entry("add", A, node(A, shape="textbox"))),
    )
    assert [cell["shape"] for cell in cells.in_order()] == ["flow", "text-box"]


def test_a_stored_legacy_edge_is_an_edge() -> None:
    cells = cell_set(node(A), edge(C, A, A, shape="edge"))
    assert apply_operation(cells, patch(entry("remove", A)))["cells"][0] == entry("remove", C)
    assert updated(edge(C, shape="edge"), labels=[]) == edge(C, labels=[])


@pytest.mark.parametrize(("stored", "data"), [(node(A), edge(A)), (edge(A, B, B), node(A))])
def test_a_node_never_becomes_an_edge_nor_the_reverse(stored: Cell, data: Cell) -> None:
    for kind in ("add", "update"):
        assert rejected(cell_set(stored), patch(entry(kind, A, data))).reason == "validation_failed"


@pytest.mark.parametrize("key", ["source", "target"])
def test_an_edge_needs_both_ends(key: str) -> None:
    data = edge(C)
    del data[key]
    assert rejected(cell_set(), patch(entry("add", C, data))).reason == "validation_failed"


@pytest.mark.parametrize("end", [None, 5, {}, {"cell": None}, {"cell": "x"}, {"x": 1, "y": 2}])
def test_an_end_names_a_cell(end: object) -> None:
    assert rejected(cell_set(edge(C)), patch(entry("update", C, {"source": end}))).reason == "validation_failed"


def test_data_that_is_no_object_is_rejected() -> None:
    malformed: list[object] = [None, [], "x", 3]
    for data in malformed:
        assert rejected(cell_set(), patch(entry("add", A, data))).reason == "validation_failed"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 2**64, -(2**64)])
def test_numbers_that_json_cannot_hold_are_rejected_at_any_depth(number: float) -> None:
    for data in (node(A, deep=[{"n": number}]), node(A, position={"x": number, "y": 0})):
        assert rejected(cell_set(), patch(entry("add", A, data))).reason == "validation_failed"


def test_data_nested_too_deeply_is_rejected() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    assert rejected(cell_set(), patch(entry("add", A, node(A, data={"deep": deep})))).reason == "validation_failed"


@pytest.mark.parametrize(
    "keys",
    [
        {"position": {"x": 1}},
        {"position": {"x": "1", "y": 2}},
        {"position": [1, 2]},
        {"size": {"width": True, "height": 2}},
        {"x": "3"},
        {"width": None},
        {"angle": "90"},
        {"attrs": []},
        {"data": "x"},
        {"ports": "top"},
        {"children": {}},
        {"children": ["x"]},
        {"parent": "x"},
        {"parent": 7},
    ],
)
def test_known_keys_of_the_wrong_type_are_rejected(keys: dict[str, Any]) -> None:
    assert rejected(cell_set(node(A)), patch(entry("update", A, keys))).reason == "validation_failed"


@pytest.mark.parametrize("keys", [{"labels": {}}, {"vertices": "x"}])
def test_known_keys_of_an_edge_of_the_wrong_type_are_rejected(keys: dict[str, Any]) -> None:
    assert rejected(cell_set(edge(C)), patch(entry("update", C, keys))).reason == "validation_failed"


def test_sizes_below_the_minimum_are_clamped() -> None:
    assert updated(node(A), size={"width": 3, "height": -4})["size"] == {"width": 40, "height": 30}
    assert updated(node(A), width=1, height=31)["size"] == {"width": 40, "height": 31}


def test_flat_geometry_becomes_nested() -> None:
    data = {"shape": "store", "x": 1.5, "y": 2, "width": 120, "height": 80, "label": "kept"}
    cells = cell_set()
    apply_operation(cells, patch(entry("add", A, data)))
    assert cells.get(A) == {
        "id": A,
        "shape": "store",
        "position": {"x": 1.5, "y": 2},
        "size": {"width": 120, "height": 80},
        "label": "kept",
    }


def test_a_flat_part_is_laid_over_the_stored_geometry() -> None:
    assert updated(node(A), x=7)["position"] == {"x": 7, "y": 2}
    stored = {"id": A, "shape": "actor", "x": 1, "y": 2, "width": 50, "height": 50}
    assert updated(stored, y=5) == {
        "id": A,
        "shape": "actor",
        "position": {"x": 1, "y": 5},
        "size": {"width": 50, "height": 50},
    }


def test_half_a_position_cannot_be_added() -> None:
    assert rejected(cell_set(), patch(entry("add", A, {"shape": "actor", "x": 1}))).reason == "validation_failed"


def test_a_complete_node_without_parent_is_no_longer_embedded() -> None:
    assert updated(node(A, parent=B, zIndex=1), **node(A)) == node(A, zIndex=1)


def test_a_complete_node_with_parent_stays_embedded() -> None:
    assert updated(node(A), **node(A, parent=B)) == node(A, parent=B)


@pytest.mark.parametrize("parent", [None, ""])
def test_no_parent_is_said_in_several_ways(parent: str | None) -> None:
    assert updated(node(A, parent=B), parent=parent) == node(A)


def test_null_drops_an_optional_key_of_the_contract_and_is_kept_elsewhere() -> None:
    assert updated(node(A, data={"k": 1}), data=None, custom=None) == node(A, custom=None)


def test_a_list_of_ports_replaces_the_items_and_keeps_the_groups() -> None:
    groups = {"top": {"position": "top"}}
    stored = node(A, ports={"groups": groups, "items": [{"id": "old", "group": "top"}]})
    items = [{"id": "top", "group": "top"}]
    assert updated(stored, ports=items)["ports"] == {"groups": groups, "items": items}


def test_a_list_of_ports_without_stored_groups_is_dropped() -> None:
    assert updated(node(A), ports=[{"id": "top", "group": "top"}]) == node(A)
    cells = cell_set()
    apply_operation(cells, patch(entry("add", A, node(A, ports=[]))))
    assert cells.get(A) == node(A)


def test_whole_ports_are_stored_as_sent() -> None:
    ports = {"groups": {}, "items": [{"id": "a", "group": "b"}]}
    assert updated(node(A, ports={"groups": {"x": {}}, "items": []}), ports=ports)["ports"] == ports


# --- folding and loading ----------------------------------------------------------------------


def test_fold_keeps_the_place_of_what_exists() -> None:
    cells = {A: node(A), B: node(B)}
    fold(cells, patch(entry("update", A, node(A, visible=True)), entry("add", D, node(D)), entry("remove", B)))
    assert list(cells.values()) == [node(A, visible=True), node(D)]


def test_named_cells_lists_canonical_ids_and_skips_what_is_malformed() -> None:
    operation = patch(entry("remove", A.upper()), entry("add", A, node()), entry("update", B, {}))
    operation["cells"] += [None, 5, {"id": C}, {"id": "x", "operation": "add"}, {"id": [], "operation": []}]
    assert named_cells(operation) == {A: {"remove", "add"}, B: {"update"}}
    nothing: list[object] = [None, [], {}, {"cells": 5}, {"cells": {"id": A}}]
    for malformed in nothing:
        assert named_cells(malformed) == {}
