"""Committing a group of operations on one diagram in one transaction.

The transaction holds the diagram's row lock from its first statement on. Its other statements come
later and so, at READ COMMITTED, see all that previous holders committed; anything read beside the
row in the locking statement itself could be older than the lock. Whether the threat model is live
may be: its deletion also deletes its diagrams. The number of statements does not depend on the size
of the group. `version` grows with every operation, so that ETags change and the audit entry of each
operation has its own.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select, update

from services.shared import rfc3339
from services.shared.sql_dialect import UuidList, is_one_of
from services.threat_model import audit, operation_log, sequencer_cells
from services.threat_model.access import principal_ids
from services.threat_model.cell_set import CellSet
from services.threat_model.cells import OperationRejected, apply_operation, canonical_id
from services.threat_model.tables import WRITER, diagrams, threat_model_access, threat_models
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import (
    CommitOperationsResponse,
    CommittedOperation,
    OperationRequest,
    OperationResult,
    Outcome,
)

_LOCK = (
    select(diagrams.c.threat_model_id, diagrams.c.session_id, diagrams.c.update_vector, diagrams.c.version)
    .join_from(diagrams, threat_models)
    .where(
        diagrams.c.id == bindparam("diagram_id"), diagrams.c.deleted_at.is_(None), threat_models.c.deleted_at.is_(None)
    )
    .with_for_update(of=diagrams, key_share=True)
)
_ROLES = select(threat_model_access.c.principal_id, threat_model_access.c.role).where(
    threat_model_access.c.threat_model_id == bindparam("threat_model_id"),
    is_one_of(threat_model_access.c.principal_id, bindparam("principal_ids", type_=UuidList())),
)
_ADVANCE = (
    update(diagrams)
    .where(diagrams.c.id == bindparam("of_diagram_id"))
    .values(
        update_vector=diagrams.c.update_vector + bindparam("accepted"),
        version=diagrams.c.version + bindparam("accepted"),
        modified_at=bindparam("now"),
        session_activity_at=bindparam("now"),
    )
)


def commit_operations(
    connection: Connection, diagram_id: str, session_id: str, requests: Sequence[OperationRequest]
) -> CommitOperationsResponse:
    """Commits the operations in order; each is accepted, repeated, rejected or denied by itself."""
    diagram = connection.execute(_LOCK, {"diagram_id": diagram_id}).one_or_none()
    if diagram is None or diagram.session_id is None or diagram.session_id != session_id:
        return CommitOperationsResponse(session_ended=True, update_vector=diagram.update_vector if diagram else 0)

    requested_ids = [request.operation_id for request in requests if canonical_id(request.operation_id)]
    known = operation_log.find(connection, diagram_id, requested_ids)
    roles = _roles(connection, diagram.threat_model_id, [request.initiator for request in requests])
    operations = [
        _parsed(request.operation) if request.operation_id not in known and role >= WRITER else None
        for request, role in zip(requests, roles, strict=True)
    ]
    loaded = sequencer_cells.load(connection, diagram_id, operations)

    committed: list[tuple[CommittedOperation, Principal]] = []
    results = []
    for request, role, operation in zip(requests, roles, operations, strict=True):
        if before := known.get(request.operation_id):
            results.append(OperationResult(outcome=Outcome.OUTCOME_REPEATED, committed=before))
        elif role < WRITER:
            results.append(OperationResult(outcome=Outcome.OUTCOME_DENIED))
        else:
            vector = diagram.update_vector + len(committed) + 1
            result = _apply(loaded.cells, request, operation, vector)
            results.append(result)
            if result.outcome == Outcome.OUTCOME_ACCEPTED:
                committed.append((result.committed, request.initiator))
                known[request.operation_id] = result.committed

    if committed:
        now = rfc3339.now()
        sequencer_cells.save(connection, diagram_id, loaded)
        operation_log.append(connection, diagram_id, session_id, committed, now)
        audit.record_all(connection, _changes(diagram, diagram_id, committed, now))
        connection.execute(_ADVANCE, {"of_diagram_id": diagram_id, "accepted": len(committed), "now": now})
    return CommitOperationsResponse(results=results, update_vector=diagram.update_vector + len(committed))


def _changes(
    diagram: Any, diagram_id: str, committed: Sequence[tuple[CommittedOperation, Principal]], at: datetime
) -> list[tuple[Principal, audit.Change]]:
    return [
        (
            initiator,
            audit.Change(
                change_type="patched",
                object_type="diagram",
                threat_model_id=diagram.threat_model_id,
                object_id=diagram_id,
                version=diagram.version + number,
                snapshot=None,
                summary=f"collaboration: update_vector {operation.update_vector}",
                at=at,
            ),
        )
        for number, (operation, initiator) in enumerate(committed, start=1)
    ]


def roles_of(access: dict[str, int], principals: Iterable[Principal]) -> list[int]:
    """Highest role of each principal, 0 for none. access: principal or group id -> role."""
    return [max((access.get(id_, 0) for id_ in principal_ids(principal)), default=0) for principal in principals]


def access_ids(principals: Iterable[Principal]) -> list[str]:
    """The ids whose access entries count for any of the principals."""
    return [id_ for id_ in {id_ for principal in principals for id_ in principal_ids(principal)} if canonical_id(id_)]


def _roles(connection: Connection, threat_model_id: str, principals: Sequence[Principal]) -> list[int]:
    rows = connection.execute(_ROLES, {"threat_model_id": threat_model_id, "principal_ids": access_ids(principals)})
    return roles_of({row.principal_id: row.role for row in rows}, principals)


def _parsed(operation: bytes) -> Any:
    try:
        return orjson.loads(operation)
    except orjson.JSONDecodeError:
        return None


def _apply(cells: CellSet, request: OperationRequest, operation: object, vector: int) -> OperationResult:
    try:
        if canonical_id(request.operation_id) is None:
            raise OperationRejected("validation_failed", "operation_id must be a UUID.")
        effective = apply_operation(cells, operation)
    except OperationRejected as rejection:
        return OperationResult(
            outcome=Outcome.OUTCOME_REJECTED,
            reason=rejection.reason,
            message=rejection.message,
            affected_cells=rejection.affected_cells,
            requires_resync=rejection.requires_resync,
        )
    return OperationResult(
        outcome=Outcome.OUTCOME_ACCEPTED,
        committed=CommittedOperation(
            update_vector=vector,
            operation_id=request.operation_id,
            socket_id=request.socket_id,
            initiating_user=operation_log.user_json(request.initiator),
            operation=orjson.dumps(effective),
        ),
    )
