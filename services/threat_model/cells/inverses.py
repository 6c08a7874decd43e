"""The inverse of a change of a diagram's cells: what each changed cell was before. Pure: no database.

As JSON an inverse is an array with an object for each changed cell, in one of two forms:

- {"id", "position", "data"}: the whole cell and its place; both null for a cell that was not there;
- {"id", "position", "members"}: the cell had the same members, in the same order, and these with other
  values. Nearly every change is of this kind, and moves one member of many.

Taken back in the reverse order of the changes, inverses give every earlier state exactly: ids,
positions, and texts to the byte, because all cells are written by one encoder.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson

Row = tuple[int, str]
"""A stored cell: its position and its JSON text."""

Rows = Mapping[str, Row | None]
"""Some cells of a diagram by id, as they were at one moment; None for one that was not there."""


def encode(before: Rows, after: Rows) -> str:
    """The inverse of a change as JSON. before, after: the same cells; those that are equal in both are left out."""
    images = [_image(cell_id, row, after[cell_id]) for cell_id, row in before.items() if row != after[cell_id]]
    return orjson.dumps(images).decode()


def take_back(cells: MutableMapping[str, Row], inverse: str) -> None:
    """Makes `cells`, all of a diagram's as the change left them, what they were before it."""
    for image in orjson.loads(inverse):
        cell_id = image["id"]
        if image["position"] is None:
            cells.pop(cell_id, None)
            continue
        members = image.get("members")
        data = image["data"] if members is None else orjson.loads(cells[cell_id][1]) | members
        cells[cell_id] = (image["position"], orjson.dumps(data).decode())


def _image(cell_id: str, before: Row | None, after: Row | None) -> dict[str, Any]:
    if before is None:
        return {"id": cell_id, "position": None, "data": None}
    position, text = before
    if after is not None:
        old, new = orjson.loads(text), orjson.loads(after[1])
        if list(old) == list(new):
            members = {name: value for name, value in old.items() if _differ(value, new[name])}
            return {"id": cell_id, "position": position, "members": members}
    return {"id": cell_id, "position": position, "data": orjson.Fragment(text)}


def _differ(old: Any, new: Any) -> bool:
    """Whether the texts differ: 1, 1.0 and true are equal in Python."""
    return orjson.dumps(old) != orjson.dumps(new)
