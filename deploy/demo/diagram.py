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

    def show(self, operation: dict[str, Any]) -> None:
        """Shows an event, which carries whole cells and names every one that is gone."""
        for change in operation["cells"]:
            if change["operation"] == "remove":
                self._cells.pop(change["id"], None)
            else:
                self._cells[change["id"]] = change["data"]

    def draw(self, operation: dict[str, Any]) -> None:
        """Draws an own edit: add and update overlay top-level keys, remove takes a node's edges with it."""
        for change in operation["cells"]:
            if change["operation"] == "remove":
                self._remove(change["id"])
            else:
                self._cells[change["id"]] = {**self._cells.get(change["id"], {}), **change["data"]}

    def cells(self) -> list[Cell]:
        """The cells by id: in which order they came is another matter on every screen."""
        return sorted(self._cells.values(), key=lambda cell: str(cell["id"]))

    def _remove(self, cell_id: str) -> None:
        self._cells.pop(cell_id, None)
        for edge in [cell for cell in self._cells.values() if _touches(cell, cell_id)]:
            del self._cells[edge["id"]]


def _touches(cell: Cell, node_id: str) -> bool:
    return any(cell.get(end, {}).get("cell") == node_id for end in ("source", "target"))
