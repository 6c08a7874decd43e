"""Committing a group of operations on one diagram in one transaction.

Three statements, however large the group: one that locks the diagram's row, one that reads, one that
writes (SQLite: one for each table written). One more when cells go, which clears what names them beyond
the diagram: the cells of threats. The diagram's row is locked before those of threats. And one more for an
update of a cell that is not there: its sender may not have seen its removal.

The lock comes first. The statements after it so see, at READ COMMITTED, all that previous holders
committed; anything read beside the row in the locking statement itself could be older than the lock.
Whether the threat model is live may be: its deletion also deletes its diagrams. `version` grows with
every operation, so that ETags change and the audit entry of each operation has its own. An operation is no
event: the end of the session is, if the session changed anything. A threat that loses its cell is one.
"""

from collections.abc import Iterable, Sequence, Set
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select, update

from services.shared import rfc3339
from services.shared.access import WRITER
from services.shared.principal import user_object
from services.shared.sql_dialect import WriteTogether
from services.threat_model.access.roles import principal_ids
from services.threat_model.access.tables import threat_models
from services.threat_model.audit import recording
from services.threat_model.audit.recording import Change
from services.threat_model.cells import rows as cell_rows
from services.threat_model.cells.cell_set import CellSet
from services.threat_model.cells.normalisation import canonical_id
from services.threat_model.cells.operations import OperationRejected, apply_operation, named_cells
from services.threat_model.cells.tables import diagrams
from services.threat_model.limits import MAX_ANSWER_BYTES, MAX_OPERATION_BYTES
from services.threat_model.resources.cascades import References
from services.threat_model.sequencer import loading, operation_log
from services.threat_model.sequencer.present import read as read_present
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import (
    CommitOperationsResponse,
    CommittedOperation,
    OperationRequest,
    OperationResult,
    Outcome,
)

_LOCK = (
    select(
        diagrams.c.threat_model_id,
        diagrams.c.session_id,
        diagrams.c.update_vector,
        diagrams.c.version,
        diagrams.c.cells_bytes,
    )
    .join_from(diagrams, threat_models)
    .where(
        diagrams.c.id == bindparam("diagram_id"), diagrams.c.deleted_at.is_(None), threat_models.c.deleted_at.is_(None)
    )
    .with_for_update(of=diagrams, key_share=True)
)
_ADVANCE = (
    update(diagrams)
    .where(diagrams.c.id == bindparam("of_diagram_id"))
    .values(
        update_vector=diagrams.c.update_vector + bindparam("accepted"),
        version=diagrams.c.version + bindparam("accepted"),
        cells_bytes=bindparam("bytes"),
        modified_at=bindparam("now"),
        session_activity_at=bindparam("now"),
    )
)
_APPEND_ENTRIES, _APPEND_EVENTS = recording.WRITES
_WRITE = WriteTogether(*cell_rows.WRITES, operation_log.APPEND, _APPEND_ENTRIES, _ADVANCE)
_WRITE_AND_ANNOUNCE = WriteTogether(*cell_rows.WRITES, operation_log.APPEND, _APPEND_ENTRIES, _APPEND_EVENTS, _ADVANCE)


FAR_BEHIND = 1000
"""Whoever has not seen the removal of a cell by so many operations is told of a conflict: the log may be long."""


def commit_operations(
    connection: Connection,
    diagram_id: str,
    session_id: str,
    requests: Sequence[OperationRequest],
    references: References,
) -> CommitOperationsResponse:
    """Commits the operations in order; each is accepted, repeated, rejected or denied by itself.

    references: to cells.
    """
    diagram = connection.execute(_LOCK, {"diagram_id": diagram_id}).one_or_none()
    if diagram is None or diagram.session_id is None or diagram.session_id != session_id:
        return CommitOperationsResponse(session_ended=True, update_vector=diagram.update_vector if diagram else 0)

    principals = [request.initiator for request in requests]
    operations = [_parsed(request.operation) for request in requests]
    named = [named_cells(operation) for operation in operations]
    present = read_present(
        connection,
        diagram_id,
        diagram.threat_model_id,
        operation_ids=[request.operation_id for request in requests if canonical_id(request.operation_id)],
        principal_ids=access_ids(principals),
        cell_ids={cell_id for cells in named for cell_id in cells},
        kinds={kind for cells in named for kinds in cells.values() for kind in kinds},
    )
    known, loaded = present.committed, present.cells
    roles = roles_of(present.access, principals)
    updated = {
        cell_id
        for request, role, cells in zip(requests, roles, named, strict=True)
        if role >= WRITER and request.operation_id not in known
        for cell_id, kinds in cells.items()
        if "update" in kinds
    }
    removals: dict[str, int] = {}
    if any(cell_id not in loaded.cells for cell_id in updated):
        oldest = min(request.base_vector for request in requests)
        removals = operation_log.removals(connection, diagram_id, max(oldest, diagram.update_vector - FAR_BEHIND))

    loaded.cells.bytes = diagram.cells_bytes
    loaded.cells.most_bytes = cell_rows.most_bytes(diagram.cells_bytes, present.model_cells_bytes)
    gone: dict[str, Principal] = {}
    committed: list[operation_log.Committed] = []
    answered = 0  # bytes
    results = []
    for request, role, operation in zip(requests, roles, operations, strict=True):
        if earlier := known.get(request.operation_id):
            results.append(OperationResult(outcome=Outcome.OUTCOME_REPEATED, committed=earlier))
        elif role < WRITER:
            results.append(OperationResult(outcome=Outcome.OUTCOME_DENIED))
        elif answered > MAX_ANSWER_BYTES - MAX_OPERATION_BYTES:
            results.append(_rejected(OperationRejected("validation_failed", "Too much at once: send it again.")))
        else:
            vector = diagram.update_vector + len(committed) + 1
            removed = {cell_id for cell_id in loaded.cells.touched if cell_id not in loaded.cells}
            removed |= {cell_id for cell_id, at in removals.items() if at > request.base_vector}
            result = _apply(loaded.cells, request, operation, removed, vector)
            results.append(result)
            if result.outcome == Outcome.OUTCOME_ACCEPTED:
                inverse = loading.last_inverse(loaded.cells)
                committed.append(operation_log.Committed(result.committed, request.initiator, inverse))
                known[request.operation_id] = result.committed
                answered += len(result.committed.operation)
                gone |= dict.fromkeys(loading.last_removed(loaded.cells), request.initiator)

    if committed:
        now = rfc3339.now()
        gone = {cell_id: initiator for cell_id, initiator in gone.items() if cell_id not in loaded.cells}
        freed: list[Change] = []
        if gone:
            freed = references.forget(connection, gone, diagram.threat_model_id, now, diagram_id)
        (_WRITE_AND_ANNOUNCE if freed else _WRITE).execute(
            connection,
            {
                **cell_rows.parameters(diagram_id, loading.changes(loaded)),
                **operation_log.rows(diagram_id, session_id, committed, now),
                **recording.rows([*freed, *_changes(diagram, diagram_id, committed, now)], announced=freed),
                "of_diagram_id": diagram_id,
                "accepted": len(committed),
                "bytes": max(0, loaded.cells.bytes),
                "now": now,
            },
        )
    return CommitOperationsResponse(results=results, update_vector=diagram.update_vector + len(committed))


def _changes(diagram: Any, diagram_id: str, committed: Sequence[operation_log.Committed], at: datetime) -> list[Change]:
    return [
        Change(
            actor=each.initiator,
            change_type="patched",
            object_type="diagram",
            root_id=diagram.threat_model_id,
            object_id=diagram_id,
            version=diagram.version + number,
            before={"update_vector": each.operation.update_vector - 1},
            summary=f"collaboration: update_vector {each.operation.update_vector}",
            at=at,
        )
        for number, each in enumerate(committed, start=1)
    ]


def roles_of(access: dict[str, int], principals: Iterable[Principal]) -> list[int]:
    """Highest role of each principal, 0 for none. access: principal or group id -> role."""
    return [max((access.get(id_, 0) for id_ in principal_ids(principal)), default=0) for principal in principals]


def access_ids(principals: Iterable[Principal]) -> list[str]:
    """The ids whose access entries count for any of the principals."""
    return [id_ for id_ in {id_ for principal in principals for id_ in principal_ids(principal)} if canonical_id(id_)]


def _parsed(operation: bytes) -> Any:
    try:
        return orjson.loads(operation)
    except orjson.JSONDecodeError:
        return None


def _apply(
    cells: CellSet, request: OperationRequest, operation: object, removed: Set[str], vector: int
) -> OperationResult:
    try:
        if canonical_id(request.operation_id) is None:
            raise OperationRejected("validation_failed", "operation_id must be a UUID.")
        effective = apply_operation(cells, operation, removed)
    except OperationRejected as rejection:
        return _rejected(rejection)
    return OperationResult(
        outcome=Outcome.OUTCOME_ACCEPTED,
        committed=CommittedOperation(
            update_vector=vector,
            operation_id=request.operation_id,
            socket_id=request.socket_id,
            initiating_user=orjson.dumps(user_object(request.initiator)),
            operation=orjson.dumps(effective),
        ),
    )


def _rejected(rejection: OperationRejected) -> OperationResult:
    return OperationResult(
        outcome=Outcome.OUTCOME_REJECTED,
        reason=rejection.reason,
        message=rejection.message,
        affected_cells=rejection.affected_cells,
        requires_resync=rejection.requires_resync,
    )
