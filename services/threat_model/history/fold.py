"""Folding a diagram's present cells back to an earlier state. Pure: no database."""

from collections.abc import Iterable, Mapping

from services.shared.errors import gone
from services.threat_model.cells import inverses
from services.threat_model.cells.inverses import Row


def fold_back(
    present: Mapping[str, Row], update_vector: int, log: Iterable[tuple[int, str | None]], target: int
) -> dict[str, Row]:
    """The cells as of the vector `target`: every id, position and text as it was stored then.

    present: all cells as of `update_vector`. log: vectors with their inverses (None: not kept), newest first.
    Raises ApiError 410 when one of the inverses between the two vectors is missing.
    """
    cells = dict(present)
    reached = update_vector
    for vector, inverse in log:
        if reached == target or vector != reached or inverse is None:
            break
        inverses.take_back(cells, inverse)
        reached -= 1
    if reached != target:
        raise gone(f"The history of the diagram is kept from update_vector {reached} on.")
    return cells
