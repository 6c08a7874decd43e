"""A diagram on somebody's screen: cells in order, and what an operation does to them.

The same rules as the server's, written a second time on purpose: the checker compares the two.
"""

from collections.abc import Iterable
from typing import Any

Cell = dict[str, Any]


class Diagram:
    """Cells by id, in the order of their first appearance."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._cells: dict[str, Cell] = {cell["id"]: dict(cell) for cell in cells}

    def apply(self, operation: dict[str, Any]) -> None:
        """Applies one operation: add and update overlay top-level keys, remove takes a node's edges with it."""
        for change in operation["cells"]:
            if change["operation"] == "remove":
                self._remove(change["id"])
            else:
                self._cells[change["id"]] = {**self._cells.get(change["id"], {}), **change["data"]}

    def cells(self) -> list[Cell]:
        """The cells in order."""
        return list(self._cells.values())

    def _remove(self, cell_id: str) -> None:
        self._cells.pop(cell_id, None)
        for edge in [cell for cell in self._cells.values() if _touches(cell, cell_id)]:
            del self._cells[edge["id"]]


def _touches(cell: Cell, node_id: str) -> bool:
    return any(cell.get(end, {}).get("cell") == node_id for end in ("source", "target"))
