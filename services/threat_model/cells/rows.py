"""The rows of a diagram's cells: what of them differs from what is wanted, and the statements that write it."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, ColumnElement, ScalarSelect, bindparam, cast, delete, func, select

from services.shared.sql_dialect import InsertRows, TextList, is_one_of
from services.threat_model.cells.inverses import Row, Rows
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.limits import MAX_DIAGRAM_BYTES, MAX_MODEL_CELLS_BYTES

_c = diagram_cells.c

WRITES = (
    InsertRows(diagram_cells, ["diagram_id", "cell_id", "position", "data"], replace=["position", "data"]),
    delete(diagram_cells).where(
        _c.diagram_id == bindparam("cells_diagram_id"),
        is_one_of(_c.cell_id, bindparam("removed_cell_ids", type_=TextList())),
    ),
)
"""Write what `parameters` holds."""


_of_model = diagrams.alias("of_model").c


def bytes_of_model(threat_model_id: ColumnElement[Any]) -> ScalarSelect[int]:
    """Bytes of the cells of all live diagrams of a threat model."""
    total = cast(func.coalesce(func.sum(_of_model.cells_bytes), 0), BigInteger)
    live = select(total).where(_of_model.threat_model_id == threat_model_id, _of_model.deleted_at.is_(None))
    return live.scalar_subquery()


def most_bytes(cells_bytes: int, model_cells_bytes: int) -> int:
    """What the cells of a diagram may grow to. cells_bytes: its own, which are among those of its model."""
    return min(MAX_DIAGRAM_BYTES, cells_bytes + MAX_MODEL_CELLS_BYTES - model_cells_bytes)


def size(changed: Rows) -> int:
    """Bytes of the JSON texts of cells."""
    return sum(len(row[1].encode()) for row in changed.values() if row)


def parameters(diagram_id: str, changed: Rows) -> dict[str, Any]:
    """The parameters of WRITES. changed: what cells become; None for one that goes."""
    rows = [(cell_id, *row) for cell_id, row in changed.items() if row]
    return {
        "diagram_cells": [
            {"diagram_id": diagram_id, "cell_id": cell_id, "position": position, "data": data}
            for cell_id, position, data in rows
        ],
        "cells_diagram_id": diagram_id,
        "removed_cell_ids": [cell_id for cell_id, row in changed.items() if row is None],
    }


def replacement(
    stored: Sequence[dict[str, Any]], positions: Sequence[int], cells: Sequence[dict[str, Any]]
) -> tuple[Rows, Rows]:
    """What changes when `cells` become the diagram's cells: what those rows become, and what they were.

    stored, positions: the present cells in order. A cell keeps its row unless its text differs or a
    cell that stood before it now stands behind.
    """
    present: dict[str, Row] = {
        cell["id"]: (position, orjson.dumps(cell).decode()) for cell, position in zip(stored, positions, strict=True)
    }
    after: dict[str, Row | None] = {}
    kept = set()
    last = -1
    for cell in cells:
        row = present.get(cell["id"])
        last = row[0] if row and row[0] > last else last + 1
        kept.add(cell["id"])
        if row != (wanted := (last, orjson.dumps(cell).decode())):
            after[cell["id"]] = wanted
    after |= dict.fromkeys(cell_id for cell_id in present if cell_id not in kept)
    return after, {cell_id: present.get(cell_id) for cell_id in after}
