"""What one collaboration operation does to a diagram's cells. Pure: no database, no clock.

`apply_operation` takes the `operation` object of a message and a CellSet, changes the set and
returns the effective operation, or raises OperationRejected and leaves the set as it was. The
effective operation has the same shape as the request, and everybody who replays it by replacement
(`fold`) ends with the state that is stored:

- `add` and `update` carry the whole merged cell; `add` of a cell that exists is an `update`;
- entries are applied in order, also several for one cell, and appear in that order;
- an `update` overlays top-level keys: each given key is replaced whole, the others stay. A null for
  an optional key of the contract drops it. A complete node snapshot (position, size and attrs)
  without `parent` means that the node is no longer embedded, so it drops a stored `parent`;
- an `update` of a cell that somebody else has just removed has no effect;
- `remove` of a cell first removes the edges that end at it and takes it out of `parent` and
  `children` of the cells that name it. `remove` of an absent cell succeeds and is repeated as such.

Cells keep their place; new ones are appended. Anything a client may sensibly send twice succeeds,
because a rejection makes clients reload: an unchanged cell is a change like any other, and the
reason `no_state_change` is never used. Edges to absent cells are accepted: endpoints may follow in
a later message.
"""

from collections.abc import Container, Iterable, Iterator
from typing import Any, Literal

import orjson

from services.threat_model.cells.cell_set import Cell, CellSet, without_references
from services.threat_model.cells.normalisation import UnusableCell, canonical_id, merged_cell
from services.threat_model.limits import FULL_OF_CELLS, MAX_CELLS, MAX_OPERATION_BYTES

Operation = dict[str, Any]
"""{"type": "patch", "cells": [{"id", "operation", "data"?}]}"""

Reason = Literal["validation_failed", "conflict_detected", "invalid_operation_type", "empty_operation"]


class OperationRejected(Exception):
    """The operation as a whole does not take effect.

    reason: value of the AsyncAPI enumeration. affected_cells: ids at fault. requires_resync: the
    sender's picture of the diagram is out of date.
    """

    def __init__(self, reason: Reason, message: str, affected_cells: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.affected_cells = list(affected_cells)
        self.requires_resync = reason == "conflict_detected"


def apply_operation(cells: CellSet, operation: object, removed: Container[str] = ()) -> Operation:
    """Applies the operation to the set, wholly or not at all.

    removed: ids of cells of which the sender could not know that they are gone. Returns the effective
    operation; `cells.before` then says what it changed. Raises OperationRejected.
    """
    entries = list(_entries(operation))
    effective: list[dict[str, Any]] = []
    with cells.atomically():
        for cell_id, kind, data in entries:
            if kind == "remove":
                effective.extend(_remove(cells, cell_id))
            elif not (kind == "update" and cells.get(cell_id) is None and cell_id in removed):
                effective.append(_write(cells, cell_id, kind, data))
        if len(orjson.dumps(effective)) > MAX_OPERATION_BYTES:
            raise OperationRejected(
                "validation_failed", f"An operation may change at most {MAX_OPERATION_BYTES} bytes."
            )
        if cells.grow() > 0 and cells.bytes > cells.most_bytes:
            raise OperationRejected("validation_failed", FULL_OF_CELLS)
    return {"type": "patch", "cells": effective}


def fold(cells: dict[str, Cell], operation: Operation) -> None:
    """Replays an effective operation by replacement; dict order is the diagram's order."""
    for entry in operation["cells"]:
        if entry["operation"] == "remove":
            cells.pop(entry["id"], None)
        else:
            cells[entry["id"]] = entry["data"]


def named_cells(operation: object) -> dict[str, set[str]]:
    """Canonical id of each cell that the operation names -> kinds of its entries.

    For loading what `apply_operation` may touch; malformed parts are skipped, nothing is raised.
    """
    named: dict[str, set[str]] = {}
    entries = operation.get("cells") if isinstance(operation, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("operation"), str):
            cell_id = canonical_id(entry.get("id"))
            if cell_id is not None:
                named.setdefault(cell_id, set()).add(entry["operation"])
    return named


def _entries(operation: object) -> Iterator[tuple[str, str, object]]:
    if not isinstance(operation, dict):
        raise OperationRejected("validation_failed", "operation must be an object.")
    if operation.get("type") != "patch":
        raise OperationRejected("invalid_operation_type", "operation.type must be patch.")
    entries = operation.get("cells")
    if not isinstance(entries, list):
        raise OperationRejected("validation_failed", "operation.cells must be an array.")
    if not entries:
        raise OperationRejected("empty_operation", "operation.cells is empty.")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise OperationRejected("validation_failed", f"operation.cells[{index}] must be an object.")
        cell_id = canonical_id(entry.get("id"))
        if cell_id is None:
            raise OperationRejected("validation_failed", f"operation.cells[{index}].id must be a UUID.")
        kind = entry.get("operation")
        if kind not in ("add", "update", "remove"):
            message = f"operation.cells[{index}].operation must be add, update or remove."
            raise OperationRejected("validation_failed", message, [cell_id])
        if kind != "remove" and "data" not in entry:
            message = f"operation.cells[{index}].data is required for {kind}."
            raise OperationRejected("validation_failed", message, [cell_id])
        yield cell_id, kind, entry.get("data")


def _write(cells: CellSet, cell_id: str, kind: str, data: object) -> dict[str, Any]:
    stored = cells.get(cell_id)
    if stored is None:
        if kind == "update":
            raise OperationRejected("conflict_detected", f"Cell {cell_id} does not exist.", [cell_id])
        if len(cells) >= MAX_CELLS:
            raise OperationRejected("validation_failed", f"A diagram has at most {MAX_CELLS} cells.", [cell_id])
    try:
        merged = merged_cell(cell_id, data, stored)
    except UnusableCell as problem:
        raise OperationRejected("validation_failed", f"Cell {cell_id}: {problem}.", [cell_id]) from None
    cells.put(cell_id, merged)
    return {"id": cell_id, "operation": "add" if stored is None else "update", "data": merged}


def _remove(cells: CellSet, cell_id: str) -> list[dict[str, Any]]:
    if cell_id not in cells:
        return [_removal(cell_id)]
    gone = dict.fromkeys(cells.ending_at(cell_id))
    naming = dict.fromkeys(other for each in gone for other in cells.referrers(each) if other not in gone)
    effective = [_removal(edge_id) for edge_id in gone if edge_id != cell_id]
    for other_id in sorted(naming, key=cells.position):
        freed = without_references(cells[other_id], gone)
        cells.put(other_id, freed)
        effective.append({"id": other_id, "operation": "update", "data": freed})
    for each in gone:
        cells.remove(each)
    return [*effective, _removal(cell_id)]


def _removal(cell_id: str) -> dict[str, Any]:
    return {"id": cell_id, "operation": "remove"}
