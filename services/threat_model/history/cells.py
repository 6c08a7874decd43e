"""The cells of a diagram as of any earlier update_vector that the log reaches back to."""

from typing import Any

from sqlalchemy import Connection, bindparam, literal_column, null, select, union_all

from services.shared.errors import not_found
from services.shared.sql_dialect import UuidText
from services.threat_model.cells.inverses import Row
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.history.fold import fold_back
from services.threat_model.sequencer.tables import diagram_operations

_DIAGRAM, _CELL, _INVERSE = range(3)

_of_diagram = bindparam("diagram_id", type_=UuidText)
_cells = diagram_cells.c
_log = diagram_operations.c


def _row(kind: int, id_: Any, number: Any, text: Any) -> Any:
    return select(literal_column(str(kind)).label("kind"), id_, number.label("number"), text)


# One statement, so that the cells and the log are of one moment. Its rows are told by their first column.
_rows = union_all(
    _row(_DIAGRAM, null(), diagrams.c.update_vector, null()).where(diagrams.c.id == _of_diagram),
    _row(_CELL, _cells.cell_id, _cells.position, _cells.data).where(_cells.diagram_id == _of_diagram),
    _row(_INVERSE, null(), _log.update_vector, _log.inverse).where(
        _log.diagram_id == _of_diagram, _log.update_vector > bindparam("target")
    ),
)
_READ = _rows.order_by(literal_column("kind"), literal_column("number").desc())


def cells_at(connection: Connection, diagram_id: str, update_vector: int) -> dict[str, Row]:
    """The cells by id as they were stored at `update_vector`; ascending positions are their order.

    Reads a deleted diagram as well: who may see what is the caller's to check. Raises ApiError 404 for a diagram or
    a vector that does not exist, 410 when the log does not reach back that far.
    """
    present: dict[str, Row] = {}
    log: list[tuple[int, str | None]] = []
    current: int | None = None
    for kind, id_, number, text in connection.execute(_READ, {"diagram_id": diagram_id, "target": update_vector}):
        if kind == _DIAGRAM:
            current = number
        elif kind == _CELL:
            present[id_] = (number, text)
        else:
            log.append((number, text))
    if current is None:
        raise not_found("The diagram does not exist.")
    if not 0 <= update_vector <= current:
        raise not_found(f"The diagram has no update_vector {update_vector}.")
    return fold_back(present, current, log, update_vector)
