"""What the engine refuses to store because it could not be delivered. Asked within the transaction of a write."""

from typing import Any

import orjson
from sqlalchemy import Row

from services.shared.errors import payload_too_large
from services.threat_model.limits import MAX_ANSWER_BYTES, MAX_MODEL_BYTES
from services.threat_model.resources.declaration import Members


def size(members: Members) -> int:
    """Bytes of the members as JSON."""
    return sum(len(orjson.dumps(value)) for value in members.values())


def require_room(row: Row[Any], growth: int) -> None:
    """Raises ApiError 413 when what a root embeds would grow beyond its limit.

    row: with `embedded_bytes`, unless nothing of its kind is embedded.
    """
    if growth > 0 and "embedded_bytes" in row._mapping and row.embedded_bytes + growth > MAX_MODEL_BYTES:
        raise payload_too_large(
            f"What belongs to one object may have at most {MAX_MODEL_BYTES} bytes, the cells of diagrams not counted."
        )


def require_deliverable(answer: str) -> None:
    """Raises ApiError 413 for an answer that is too large to be sent."""
    if (len(answer) if answer.isascii() else len(answer.encode())) > MAX_ANSWER_BYTES:
        raise payload_too_large(f"The answer would have more than {MAX_ANSWER_BYTES} bytes: ask for less.")
