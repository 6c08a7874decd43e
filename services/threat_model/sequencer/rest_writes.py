"""A REST write of a diagram's cells: all of them, in order. It has its number and its row in the log as well."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from services.shared import rfc3339
from services.shared.sql_dialect import WriteTogether
from services.threat_model.cells import inverses
from services.threat_model.cells import rows as cell_rows
from services.threat_model.sequencer import operation_log

_WRITE = WriteTogether(*cell_rows.WRITES, operation_log.APPEND_REST_WRITE)


def replace_cells(
    connection: Connection,
    diagram_id: str,
    update_vector: int,
    stored: Sequence[dict[str, Any]],
    positions: Sequence[int],
    cells: Sequence[dict[str, Any]],
) -> bool:
    """Makes `cells` the diagram's cells, in one statement on PostgreSQL; True when that changed anything.

    The caller holds the lock on the diagram's row and writes its vector. update_vector: the number of this
    write if it changes anything. stored, positions: the present cells in order..
    """
    after, before = cell_rows.replacement(stored, positions, cells)
    if not after:
        return False
    _WRITE.execute(
        connection,
        {
            **cell_rows.parameters(diagram_id, after),
            **operation_log.rest_write(diagram_id, update_vector, inverses.encode(before, after), rfc3339.now()),
        },
    )
    return True
