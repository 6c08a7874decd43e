"""The cell rows that a group of operations needs: as a CellSet, and which of them it changed.

Only the cells that the group names are loaded, so an edit costs what it touches. A removal is the
exception: whatever names the cell must be found, and the whole diagram is loaded.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from services.threat_model.cells import inverses
from services.threat_model.cells.cell_set import Cell, CellSet
from services.threat_model.cells.inverses import Row, Rows


@dataclass(slots=True)
class LoadedCells:
    """A CellSet and the JSON texts that it was loaded from."""

    cells: CellSet
    stored: dict[str, Row]


def loaded_cells(rows: Iterable[tuple[str, int, str]], number_of_cells: int = 0) -> LoadedCells:
    """rows: (id, position, JSON text). number_of_cells: of the diagram, if more than the rows."""
    ordered = sorted(rows, key=lambda row: row[1])
    return LoadedCells(
        CellSet(
            ((cell_id, position, orjson.loads(text)) for cell_id, position, text in ordered),
            absent=max(0, number_of_cells - len(ordered)),
        ),
        {cell_id: (position, text) for cell_id, position, text in ordered},
    )


def changes(loaded: LoadedCells) -> Rows:
    """The cells that differ from what was loaded, as they are now."""
    now = {cell_id: _row(loaded.cells.placed(cell_id)) for cell_id in loaded.cells.touched}
    return {cell_id: row for cell_id, row in now.items() if row != loaded.stored.get(cell_id)}


def last_removed(cells: CellSet) -> list[str]:
    """Ids of the cells that went with the operation that was applied last."""
    return [cell_id for cell_id, placed in cells.before.items() if placed is not None and cell_id not in cells]


def last_inverse(cells: CellSet) -> str:
    """The inverse of the operation that was applied last."""
    before = {cell_id: _row(placed) for cell_id, placed in cells.before.items()}
    return inverses.encode(before, {cell_id: _row(cells.placed(cell_id)) for cell_id in before})


def _row(placed: tuple[int, Cell] | None) -> Row | None:
    return None if placed is None else (placed[0], orjson.dumps(placed[1]).decode())
