"""The cells of one diagram in memory, with their order and the references between them."""

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from services.threat_model.limits import MAX_DIAGRAM_BYTES

Cell = dict[str, Any]
"""A parsed cell. Never changed in place once it is in a CellSet."""

EDGE_SHAPE = "flow"
LEGACY_SHAPES = {"edge": EDGE_SHAPE, "textbox": "text-box"}


class CellSet:
    """Cells of one diagram in memory: all of them, or those that the operations at hand touch.

    rows: (id, position, cell) by ascending position. absent: how many cells the diagram has besides
    these. last_position: greatest position in the diagram; new cells are placed after it.
    """

    def __init__(self, rows: Iterable[tuple[str, int, Cell]] = (), *, absent: int = 0, last_position: int = -1) -> None:
        self._cells: dict[str, tuple[int, Cell]] = {}
        self._referrers: dict[str, set[str]] = {}
        self._absent = absent
        self._last_position = last_position
        self.bytes = 0
        """JSON texts of all cells of the diagram, also of those that are not in the set."""
        self.most_bytes = MAX_DIAGRAM_BYTES
        """What `bytes` may grow to."""
        self.touched: set[str] = set()
        """Ids of cells that were put or removed since the set was made."""
        self.before: dict[str, tuple[int, Cell] | None] = {}
        """Position and cell, before the last `atomically`, of each cell that was put or removed in it; None: absent."""
        for cell_id, position, cell in rows:
            self._last_position = max(self._last_position, position)
            self._place(cell_id, (position, cell))

    def __len__(self) -> int:
        """Number of cells in the diagram."""
        return self._absent + len(self._cells)

    def __contains__(self, cell_id: str) -> bool:
        return cell_id in self._cells

    def __getitem__(self, cell_id: str) -> Cell:
        return self._cells[cell_id][1]

    def get(self, cell_id: str) -> Cell | None:
        """The cell, None when there is none."""
        placed = self._cells.get(cell_id)
        return placed[1] if placed else None

    def placed(self, cell_id: str) -> tuple[int, Cell] | None:
        """Position and cell, None when there is none."""
        return self._cells.get(cell_id)

    def position(self, cell_id: str) -> int:
        """Where the cell stands; ascending in the diagram's order."""
        return self._cells[cell_id][0]

    def in_order(self) -> list[Cell]:
        """The cells in the diagram's order."""
        return [cell for _, cell in sorted(self._cells.values(), key=lambda placed: placed[0])]

    def referrers(self, cell_id: str) -> list[str]:
        """Ids of the cells that name this one as end, parent or child, in order."""
        return sorted(self._referrers.get(cell_id, ()), key=self.position)

    def ending_at(self, cell_id: str) -> list[str]:
        """The cell and the edges that cannot be without it: that end at it, at those edges, and so on."""
        gone = [cell_id]
        seen = {cell_id}
        for current in gone:  # grows meanwhile
            edges = [other for other in self.referrers(current) if current in ends(self[other])]
            gone += [other for other in edges if other not in seen]
            seen.update(edges)
        return gone

    def put(self, cell_id: str, cell: Cell) -> None:
        """Replaces the cell in its place, or appends it."""
        placed = self._cells.get(cell_id)
        if placed is None:
            self._last_position += 1
        self._set(cell_id, (placed[0] if placed else self._last_position, cell))

    def remove(self, cell_id: str) -> None:
        """Removes the cell if it is there."""
        if cell_id in self._cells:
            self._set(cell_id, None)

    def grow(self) -> int:
        """Adds to `bytes`, and returns, by how much the cells grew since the last `atomically` began."""
        growth = sum(_size(self._cells.get(cell_id)) - _size(placed) for cell_id, placed in self.before.items())
        self.bytes += growth
        return growth

    @contextmanager
    def atomically(self) -> Iterator[None]:
        """Takes back every change of the block when it raises."""
        self.before = {}
        touched, last_position, size = set(self.touched), self._last_position, self.bytes
        try:
            yield
        except BaseException:
            for cell_id, placed in self.before.items():
                self._place(cell_id, placed)
            self.before = {}
            self.touched, self._last_position, self.bytes = touched, last_position, size
            raise

    def _set(self, cell_id: str, placed: tuple[int, Cell] | None) -> None:
        self.before.setdefault(cell_id, self._cells.get(cell_id))
        self.touched.add(cell_id)
        self._place(cell_id, placed)

    def _place(self, cell_id: str, placed: tuple[int, Cell] | None) -> None:
        if before := self._cells.pop(cell_id, None):
            for named in _references(before[1]):
                self._referrers[named].discard(cell_id)
        if placed is not None:
            self._cells[cell_id] = placed
            for named in _references(placed[1]):
                self._referrers.setdefault(named, set()).add(cell_id)


def _size(placed: tuple[int, Cell] | None) -> int:
    return len(orjson.dumps(placed[1])) if placed else 0


def is_edge(cell: Cell) -> bool:
    """True for an edge, False for a node."""
    return LEGACY_SHAPES.get(cell.get("shape", ""), cell.get("shape")) == EDGE_SHAPE


def ends(cell: Cell) -> list[str]:
    """Ids of the cells that an edge connects; empty for a node."""
    if not is_edge(cell):
        return []
    terminals = (cell.get("source"), cell.get("target"))
    return [end["cell"].lower() for end in terminals if isinstance(end, dict) and isinstance(end.get("cell"), str)]


def without_references(cell: Cell, gone: Container[str]) -> Cell:
    """The cell without the names of cells that are gone as its parent and children."""
    freed = dict(cell)
    if isinstance(parent := freed.get("parent"), str) and parent.lower() in gone:
        del freed["parent"]
    if isinstance(children := freed.get("children"), list):
        freed["children"] = [child for child in children if not (isinstance(child, str) and child.lower() in gone)]
    return freed


def _references(cell: Cell) -> list[str]:
    named = ends(cell)
    if isinstance(parent := cell.get("parent"), str):
        named.append(parent.lower())
    if isinstance(children := cell.get("children"), list):
        named += [child.lower() for child in children if isinstance(child, str)]
    return named
