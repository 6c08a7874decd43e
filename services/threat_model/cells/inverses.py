"""The inverse of a change of a diagram's cells: what each changed cell was before. Pure: no database.

Whoever puts an inverse in the place of what is there now has undone the change exactly, the order of the
cells included. As JSON an inverse is an array of {"id", "position", "data"}, where data is the whole
cell; position and data are null for a cell that was not there.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson

Row = tuple[int, str]
"""A stored cell: its position and its JSON text."""

Rows = Mapping[str, Row | None]
"""Some cells of a diagram by id, as they were at one moment; None for one that was not there."""


def encode(before: Rows) -> str:
    """The inverse as JSON. before: what the changed cells were."""
    images = []
    for cell_id, row in before.items():
        position, data = (row[0], orjson.Fragment(row[1])) if row else (None, None)
        images.append({"id": cell_id, "position": position, "data": data})
    return orjson.dumps(images).decode()


def decode(text: str) -> dict[str, Row | None]:
    """What `encode` was given.

    Texts are equal because every stored cell was written by the same encoder, which writes what it reads
    in only one way.
    """
    images: list[dict[str, Any]] = orjson.loads(text)
    return {
        image["id"]: None if image["data"] is None else (image["position"], orjson.dumps(image["data"]).decode())
        for image in images
    }


def take_back(cells: MutableMapping[str, Row], before: Rows) -> None:
    """Makes `cells`, all of a diagram's, what they were before the change."""
    for cell_id, row in before.items():
        if row is None:
            cells.pop(cell_id, None)
        else:
            cells[cell_id] = row
