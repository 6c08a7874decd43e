"""What a group of operations has to know of its diagram, read in one statement.

Its rows are of several kinds, which are told by their first column.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, bindparam, cast, func, literal_column, null, select, union_all

from services.shared.sql_dialect import TextList, UuidList, UuidText, is_one_of
from services.threat_model.access.tables import threat_model_access
from services.threat_model.cells import rows as cell_rows
from services.threat_model.cells.tables import diagram_cells
from services.threat_model.sequencer.loading import LoadedCells, loaded_cells
from services.threat_model.sequencer.operation_log import committed_operation
from services.threat_model.sequencer.tables import diagram_operations
from tmi.threat_model.v1.sequencer_pb2 import CommittedOperation

_OPERATION, _ROLE, _CELL, _NUMBER_OF_CELLS, _BYTES_OF_MODEL = range(5)

_cells = diagram_cells.c
_log = diagram_operations.c
_access = threat_model_access.c
_of_diagram = bindparam("diagram_id", type_=UuidText)


def _row(kind: int, id_: Any, number: Any, text: Any = None, socket_id: Any = None, user: Any = None) -> Any:
    columns: list[ColumnElement[Any]] = [null() if value is None else value for value in (text, socket_id, user)]
    return select(literal_column(str(kind)), null() if id_ is None else id_, number, *columns)


_KNOWN_OPERATIONS = _row(
    _OPERATION, _log.operation_id, _log.update_vector, _log.operation, _log.socket_id, _log.initiating_user
).where(
    _log.diagram_id == _of_diagram,
    is_one_of(_log.operation_id, bindparam("operation_ids", type_=TextList())),
)
_ROLES = _row(_ROLE, cast(_access.principal_id, Text), _access.role).where(
    _access.threat_model_id == bindparam("threat_model_id", type_=UuidText),
    is_one_of(_access.principal_id, bindparam("principal_ids", type_=UuidList())),
)
_a_cell = _row(_CELL, _cells.cell_id, _cells.position, _cells.data).where(_cells.diagram_id == _of_diagram)
_named = is_one_of(_cells.cell_id, bindparam("cell_ids", type_=TextList()))
_other = diagram_cells.alias("other").c
_last_position = select(func.max(_other.position)).where(_other.diagram_id == _of_diagram).scalar_subquery()

_bytes_of_model = _row(_BYTES_OF_MODEL, None, cell_rows.bytes_of_model(bindparam("threat_model_id", type_=UuidText)))

_READ = union_all(_KNOWN_OPERATIONS, _ROLES, _bytes_of_model, _a_cell.where(_named))
# An addition must know how many cells there are and which is the last: that one is loaded as well.
_READ_FOR_ADDITION = union_all(
    _KNOWN_OPERATIONS,
    _ROLES,
    _bytes_of_model,
    _a_cell.where(_named | (_cells.position == _last_position)),
    _row(_NUMBER_OF_CELLS, None, func.count()).select_from(diagram_cells).where(_cells.diagram_id == _of_diagram),
)
_READ_FOR_REMOVAL = union_all(_KNOWN_OPERATIONS, _ROLES, _bytes_of_model, _a_cell)


@dataclass(slots=True)
class Present:
    """The diagram as a group finds it."""

    committed: dict[str, CommittedOperation]
    """Those of the group's operations that were committed before, in whichever session, by id."""
    access: dict[str, int]
    """Principal or group id -> role."""
    cells: LoadedCells
    """The cells that the group names; all of them when it removes some."""
    model_cells_bytes: int
    """Of the cells of all diagrams of the threat model."""


def read(
    connection: Connection,
    diagram_id: str,
    threat_model_id: str,
    *,
    operation_ids: Iterable[str],
    principal_ids: Iterable[str],
    cell_ids: Iterable[str],
    kinds: Set[str],
) -> Present:
    """Reads what of these there is. kinds: of the entries of the group. A removal needs all cells."""
    rows = connection.execute(
        _READ_FOR_REMOVAL if "remove" in kinds else _READ_FOR_ADDITION if "add" in kinds else _READ,
        {
            "diagram_id": diagram_id,
            "threat_model_id": threat_model_id,
            "operation_ids": operation_ids,
            "principal_ids": principal_ids,
            "cell_ids": cell_ids,
        },
    )
    committed: dict[str, CommittedOperation] = {}
    access: dict[str, int] = {}
    cells: list[tuple[str, int, str]] = []
    number_of_cells = model_cells_bytes = 0
    for kind, id_, number, text, socket_id, user in rows:
        if kind == _OPERATION:
            committed[id_] = committed_operation(number, id_, socket_id, user, text)
        elif kind == _ROLE:
            access[id_] = number
        elif kind == _CELL:
            cells.append((id_, number, text))
        elif kind == _NUMBER_OF_CELLS:
            number_of_cells = number
        else:
            model_cells_bytes = number
    return Present(committed, access, loaded_cells(cells, number_of_cells), model_cells_bytes)
