"""The log of what changed each diagram's cells, keyed by update_vector.

To those who replay operations a REST write is a gap, as is what was pruned: they need the whole state
instead. The inverses of both kinds lead back to every earlier state.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, func, insert, select

from services.shared.errors import not_found
from services.shared.sql_dialect import InsertRows, octets
from services.threat_model.access.tables import threat_models
from services.threat_model.cells.tables import diagrams
from services.threat_model.limits import MAX_READ_BYTES
from services.threat_model.sequencer.tables import diagram_operations
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import CommittedOperation, ReadOperationsResponse

DEFAULT_LIMIT = 1000

_log = diagram_operations.c

_COMMITTED = (_log.update_vector, _log.operation_id, _log.socket_id, _log.initiating_user, _log.operation)

_size = octets(_log.operation)
_later = (
    select(
        _log.diagram_id, *_COMMITTED, (func.sum(_size).over(order_by=_log.update_vector) - _size).label("bytes_before")
    )
    .where(
        _log.diagram_id == bindparam("diagram_id", type_=_log.diagram_id.type),
        _log.update_vector > bindparam("after_vector"),
        _log.operation.is_not(None),
    )
    .order_by(_log.update_vector)
    .limit(bindparam("row_limit"))
    .subquery("later")
)
# One statement, so that the vector and the entries are of one moment.
_READ = (
    select(
        diagrams.c.update_vector.label("current_vector"),
        diagrams.c.session_id,
        *(_later.c[column.name] for column in _COMMITTED),
    )
    .select_from(
        diagrams.join(threat_models).outerjoin(
            _later, (_later.c.diagram_id == diagrams.c.id) & (_later.c.bytes_before < bindparam("most_bytes"))
        )
    )
    .where(
        diagrams.c.id == bindparam("diagram_id"), diagrams.c.deleted_at.is_(None), threat_models.c.deleted_at.is_(None)
    )
    .order_by(_later.c.update_vector)
)

_REMOVALS = (
    select(_log.update_vector, _log.operation)
    .where(
        _log.diagram_id == bindparam("diagram_id", type_=_log.diagram_id.type),
        _log.update_vector > bindparam("after_vector"),
        _log.operation.contains('"operation":"remove"'),
    )
    .order_by(_log.update_vector)
)

APPEND = InsertRows(diagram_operations, [column.name for column in diagram_operations.c])
"""Writes what `rows` made."""

_REST_WRITE = ("diagram_id", "update_vector", "inverse", "created_at")

# An inverse may be as large as a diagram: a parameter of its own costs half of what it costs within rows.
APPEND_REST_WRITE = insert(diagram_operations).values(
    {name: bindparam(f"log_{name}", type_=_log[name].type) for name in _REST_WRITE}
)
"""Writes what `rest_write` made."""


@dataclass(frozen=True, slots=True)
class Committed:
    """An operation that was just committed, by whom, and its inverse."""

    operation: CommittedOperation
    initiator: Principal
    inverse: str


def rows(diagram_id: str, session_id: str, committed: Iterable[Committed], at: datetime) -> dict[str, Any]:
    """Operations that were just committed as the parameter of APPEND."""
    return {
        "diagram_operations": [
            {
                "diagram_id": diagram_id,
                "update_vector": each.operation.update_vector,
                "operation_id": each.operation.operation_id,
                "socket_id": each.operation.socket_id,
                "session_id": session_id,
                "initiating_user": each.operation.initiating_user.decode(),
                "initiator_id": each.initiator.user_id,
                "operation": each.operation.operation.decode(),
                "inverse": each.inverse,
                "created_at": at,
            }
            for each in committed
        ]
    }


def rest_write(diagram_id: str, update_vector: int, inverse: str, at: datetime) -> dict[str, Any]:
    """A REST write as the parameters of APPEND_REST_WRITE."""
    values = (diagram_id, update_vector, inverse, at)
    return {f"log_{name}": value for name, value in zip(_REST_WRITE, values, strict=True)}


def read(connection: Connection, diagram_id: str, after_vector: int, limit: int) -> ReadOperationsResponse:
    """At most `limit` (0: 1000) operations after a vector, oldest first; fewer when they are large.

    `complete` is false, and there are no operations, when one in that range is not in the log or
    the vector lies ahead of the diagram's. Raises ApiError 404.
    """
    limit = limit if 0 < limit < DEFAULT_LIMIT else DEFAULT_LIMIT
    parameters = {"diagram_id": diagram_id, "after_vector": after_vector, "row_limit": limit}
    rows = connection.execute(_READ, parameters | {"most_bytes": MAX_READ_BYTES}).all()
    if not rows:
        raise not_found("The diagram does not exist.")
    current: int = rows[0].current_vector
    operations = [committed_operation(*row[2:]) for row in rows if row.update_vector is not None]
    if sum(len(operation.operation) for operation in operations) >= MAX_READ_BYTES:
        limit = len(operations)
    wanted = range(after_vector + 1, min(current, after_vector + limit) + 1)
    complete = after_vector <= current and [operation.update_vector for operation in operations] == list(wanted)
    return ReadOperationsResponse(
        operations=operations if complete else [],
        update_vector=current,
        complete=complete,
        session_id=rows[0].session_id or "",
    )


def removals(connection: Connection, diagram_id: str, after_vector: int) -> dict[str, int]:
    """Cells that were removed after a vector, by id with the vector of the last removal. Reads all of the log since."""
    rows = connection.execute(_REMOVALS, {"diagram_id": diagram_id, "after_vector": after_vector})
    removed: dict[str, int] = {}
    for update_vector, operation in rows:
        for entry in orjson.loads(operation)["cells"]:
            if entry["operation"] == "remove":
                removed[entry["id"]] = update_vector
    return removed


def committed_operation(
    update_vector: int, operation_id: str, socket_id: str, initiating_user: str, operation: str
) -> CommittedOperation:
    """The message for these columns of the log."""
    return CommittedOperation(
        update_vector=update_vector,
        operation_id=operation_id,
        socket_id=socket_id,
        initiating_user=initiating_user.encode(),
        operation=operation.encode(),
    )
