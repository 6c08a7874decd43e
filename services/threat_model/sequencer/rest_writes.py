"""A REST write of a diagram's cells: all of them, in order. It has its number and its row in the log as well."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from services.shared import rfc3339
from services.shared.sql_dialect import WriteTogether
from services.threat_model.cells import inverses
from services.threat_model.cells import rows as cell_rows
from services.threat_model.cells.cell_set import Cell, CellSet, without_references
from services.threat_model.sequencer import operation_log

_WRITE = WriteTogether(*cell_rows.WRITES, operation_log.APPEND_REST_WRITE)


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a write of cells did: ids of those that are gone, and by how many bytes the diagram grew."""

    gone: list[str]
    growth: int


def replace_cells(
    connection: Connection,
    diagram_id: str,
    update_vector: int,
    stored: Sequence[Cell],
    positions: Sequence[int],
    cells: Sequence[Cell],
) -> Replaced | None:
    """Makes `cells` the diagram's cells, in one statement on PostgreSQL; None when that changed nothing.

    A cell that is left out takes with it the edges that end at it, and its name in `parent` and `children`
    of others. The caller holds the lock on the diagram's row and writes its vector. update_vector: the number of
    this write if it changes anything. stored, positions: the present cells in order.
    """
    given = {cell["id"] for cell in cells}
    if gone := [cell["id"] for cell in stored if cell["id"] not in given]:
        cells = _detached(cells, gone)
    after, before = cell_rows.replacement(stored, positions, cells)
    if not after:
        return None
    _WRITE.execute(
        connection,
        {
            **cell_rows.parameters(diagram_id, after),
            **operation_log.rest_write(diagram_id, update_vector, inverses.encode(before, after), rfc3339.now()),
        },
    )
    gone = [cell_id for cell_id, row in after.items() if row is None]
    return Replaced(gone, cell_rows.size(after) - cell_rows.size(before))


def _detached(cells: Sequence[Cell], gone: Sequence[str]) -> list[Cell]:
    """The cells without what names those that are gone."""
    present = CellSet((cell["id"], place, cell) for place, cell in enumerate(cells))
    going = {cell_id for each in gone for cell_id in present.ending_at(each)}
    naming = {cell_id for each in going for cell_id in present.referrers(each)}
    return [
        without_references(cell, going) if cell["id"] in naming else cell for cell in cells if cell["id"] not in going
    ]
