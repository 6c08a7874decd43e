"""Writing a diagram's cells as REST gives them: all of them, in order, only the differing rows."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam

from services.shared import sql_dialect
from services.shared.errors import invalid_input
from services.shared.sql_dialect import TextList, UuidText, is_one_of
from services.threat_model.cells import rules as cell_rules
from services.threat_model.cells.tables import diagram_cells

_c = diagram_cells.c

_DELETE = diagram_cells.delete().where(
    _c.diagram_id == bindparam("of_diagram_id", type_=UuidText),
    is_one_of(_c.cell_id, bindparam("cell_ids", type_=TextList())),
)


def replace(
    connection: Connection,
    diagram_id: str,
    stored: Sequence[dict[str, Any]],
    positions: Sequence[int],
    cells: Sequence[dict[str, Any]],
) -> bool:
    """Makes `cells` the diagram's cells; True when that changed anything.

    stored, positions: the present cells in order. A cell keeps its row unless its text differs or a
    cell that stood before it now stands behind.
    """
    before = {
        cell["id"]: (position, orjson.dumps(cell).decode()) for cell, position in zip(stored, positions, strict=True)
    }
    changed = []
    last = -1
    for cell in cells:
        position, text = before.pop(cell["id"], (None, None))
        place = position if position is not None and position > last else last + 1
        new_text = _encode(cell)
        if (place, new_text) != (position, text):
            changed.append({"diagram_id": diagram_id, "cell_id": cell["id"], "position": place, "data": new_text})
        last = place
    if changed:
        statement = sql_dialect.insert(connection, diagram_cells)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[_c.diagram_id, _c.cell_id],
                set_={"position": statement.excluded.position, "data": statement.excluded.data},
            ),
            changed,
        )
    if before:
        connection.execute(_DELETE, {"of_diagram_id": diagram_id, "cell_ids": list(before)})
    return bool(changed or before)


def _encode(cell: dict[str, Any]) -> str:
    try:
        return cell_rules.encode(cell)
    except ValueError as error:
        raise invalid_input(f"cells: {error}") from None
