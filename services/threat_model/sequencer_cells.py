"""The cell rows that a group of operations needs: loaded into a CellSet, and written back.

Only the cells that the group names are loaded, so an edit costs what it touches. The removal of a
node is the exception: whatever refers to the node must be found, and the whole diagram is loaded.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, Executable, bindparam, delete, func, literal, select

from services.shared import sql_dialect
from services.shared.sql_dialect import TextList, is_one_of
from services.threat_model.cell_set import CellSet
from services.threat_model.cells import is_edge, named_cells
from services.threat_model.tables import diagram_cells

_rows = diagram_cells.c
_ORDER = (_rows.position, _rows.cell_id)
_of_diagram = _rows.diagram_id == bindparam("of_diagram_id")
_named = is_one_of(_rows.cell_id, bindparam("cell_ids", type_=TextList()))

_LOAD_ALL = select(_rows.cell_id, _rows.position, _rows.data).where(_of_diagram).order_by(*_ORDER)
_LOAD_NAMED = (
    select(_rows.cell_id, _rows.position, _rows.data, literal(0).label("total"))
    .where(_of_diagram, _named)
    .order_by(*_ORDER)
)
_other = diagram_cells.alias("other")
_of_same_diagram = _other.c.diagram_id == bindparam("of_diagram_id")
# An addition must know how many cells there are and which is the last: that one is loaded as well.
_LOAD_NAMED_AND_LAST = (
    select(
        _rows.cell_id,
        _rows.position,
        _rows.data,
        select(func.count()).select_from(_other).where(_of_same_diagram).scalar_subquery().label("total"),
    )
    .where(
        _of_diagram,
        _named | (_rows.position == select(func.max(_other.c.position)).where(_of_same_diagram).scalar_subquery()),
    )
    .order_by(*_ORDER)
)
_UPSERT: dict[str, Executable] = {}  # by dialect: building it costs more than running it
_DELETE = delete(diagram_cells).where(_of_diagram, _named)


@dataclass(slots=True)
class LoadedCells:
    """A CellSet and the JSON texts that it was loaded from."""

    cells: CellSet
    stored: dict[str, tuple[int, str]]
    """Cell id -> (position, JSON text)."""


def load(connection: Connection, diagram_id: str, operations: Iterable[object]) -> LoadedCells:
    """What the operations (parsed JSON, well formed or not) may read or change."""
    kinds: dict[str, set[str]] = {}
    for operation in operations:
        for cell_id, named in named_cells(operation).items():
            kinds.setdefault(cell_id, set()).update(named)
    adds = any("add" in named for named in kinds.values())
    loaded = _load_named(connection, diagram_id, list(kinds), with_last=adds) if kinds else LoadedCells(CellSet(), {})
    for cell_id, named in kinds.items():
        if "remove" in named:
            cell = loaded.cells.get(cell_id)
            if "add" in named if cell is None else not is_edge(cell):
                return _load_all(connection, diagram_id)
    return loaded


def save(connection: Connection, diagram_id: str, loaded: LoadedCells) -> None:
    """Writes the cells that differ from what was loaded."""
    changed = []
    removed = []
    for cell_id in loaded.cells.touched:
        cell = loaded.cells.get(cell_id)
        before = loaded.stored.get(cell_id)
        if cell is None:
            if before is not None:
                removed.append(cell_id)
            continue
        after = (loaded.cells.position(cell_id), orjson.dumps(cell).decode())
        if after != before:
            changed.append({"diagram_id": diagram_id, "cell_id": cell_id, "position": after[0], "data": after[1]})
    if changed:
        connection.execute(_upsert(connection), changed)
    if removed:
        connection.execute(_DELETE, {"of_diagram_id": diagram_id, "cell_ids": removed})


def _upsert(connection: Connection) -> Executable:
    name = connection.dialect.name
    if name not in _UPSERT:
        statement = sql_dialect.insert(connection, diagram_cells)
        new = statement.excluded
        _UPSERT[name] = statement.on_conflict_do_update(
            index_elements=[_rows.diagram_id, _rows.cell_id], set_={"position": new.position, "data": new.data}
        )
    return _UPSERT[name]


def _load_named(connection: Connection, diagram_id: str, cell_ids: list[str], *, with_last: bool) -> LoadedCells:
    statement = _LOAD_NAMED_AND_LAST if with_last else _LOAD_NAMED
    rows = connection.execute(statement, {"of_diagram_id": diagram_id, "cell_ids": cell_ids}).all()
    absent = max(0, rows[0].total - len(rows)) if rows else 0
    return LoadedCells(
        CellSet(((row.cell_id, row.position, orjson.loads(row.data)) for row in rows), absent=absent),
        {row.cell_id: (row.position, row.data) for row in rows},
    )


def _load_all(connection: Connection, diagram_id: str) -> LoadedCells:
    rows = connection.execute(_LOAD_ALL, {"of_diagram_id": diagram_id}).all()
    return LoadedCells(
        CellSet((row.cell_id, row.position, orjson.loads(row.data)) for row in rows),
        {row.cell_id: (row.position, row.data) for row in rows},
    )
