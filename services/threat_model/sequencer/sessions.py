"""The collaboration session of a diagram: columns of the diagram's row, guarded by that row's lock.

A session starts, takes part in commits and ends under the lock that REST writes take too, so none
of them can slip between another's check and its change. Times are kept to the millisecond, as
callers see them.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, or_, select, update

from services.shared import rfc3339
from services.shared.errors import forbidden, invalid_input, not_found
from services.shared.sql_dialect import UuidList, WriteTogether, is_one_of
from services.shared.uuids import uuid4
from services.threat_model.access.roles import PRINCIPAL_IDS, is_callers, principal_ids, role_on
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.audit import recording
from services.threat_model.audit.recording import Change
from services.threat_model.cells.tables import diagrams
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import DiagramSession, Role

_diagram = diagrams.c
_model = threat_models.c
_is_live = _diagram.deleted_at.is_(None) & _model.deleted_at.is_(None)

_COLUMNS = (
    _model.id.label("threat_model_id"),
    _model.name.label("threat_model_name"),
    _diagram.id.label("diagram_id"),
    _diagram.name.label("diagram_name"),
    _diagram.update_vector,
    _diagram.session_id,
    _diagram.session_host,
    _diagram.session_start_vector,
    _diagram.session_started_at,
    _diagram.session_activity_at,
)

_FIND = (
    select(*_COLUMNS, role_on(_model.id).label("role"))
    .join_from(diagrams, threat_models)
    .where(_diagram.id == bindparam("diagram_id"), _model.id == bindparam("threat_model_id"), _is_live)
)
_LOCK = _FIND.with_for_update(of=diagrams, key_share=True)
_FIND_MODEL = select(role_on(_model.id).label("role")).where(
    _model.id == bindparam("threat_model_id"), _model.deleted_at.is_(None)
)
_LIST_ALL = (
    select(*_COLUMNS)
    .join_from(diagrams, threat_models)
    .where(_diagram.session_id.is_not(None), _is_live)
    .order_by(_diagram.session_started_at, _diagram.id)
)
_LIST_READABLE = (
    _LIST_ALL.add_columns(func.max(threat_model_access.c.role).label("role"))
    .join(threat_model_access, threat_model_access.c.threat_model_id == _model.id)
    .where(is_callers())
    .group_by(_diagram.id, _model.id)
)
_BEGIN = (
    update(diagrams)
    .where(_diagram.id == bindparam("of_diagram_id"))
    .values(
        session_id=bindparam("new_session_id"),
        session_host=bindparam("host"),
        session_start_vector=_diagram.update_vector,
        session_started_at=bindparam("now"),
        session_activity_at=bindparam("now"),
    )
)
_LOCK_TO_END = (
    select(
        _diagram.threat_model_id,
        _diagram.version,
        _diagram.update_vector,
        _diagram.session_start_vector,
        _diagram.session_host,
    )
    .where(
        _diagram.id == bindparam("diagram_id"),
        _diagram.session_id == bindparam("session_id"),
        or_(
            _diagram.session_activity_at <= bindparam("idle_since", type_=_diagram.session_activity_at.type),
            bindparam("idle_since", type_=_diagram.session_activity_at.type).is_(None),
        ),
    )
    .with_for_update(key_share=True)
)
_END = (
    update(diagrams)
    .where(_diagram.id == bindparam("of_diagram_id"))
    .values(
        session_id=None,
        session_host=None,
        session_start_vector=None,
        session_started_at=None,
        session_activity_at=None,
    )
)
_, _APPEND_EVENTS = recording.WRITES
_ANNOUNCE_AND_END = WriteTogether(_APPEND_EVENTS, _END)
_is_named_session = is_one_of(_diagram.session_id, bindparam("session_ids", type_=UuidList()))
# Rows are locked in the order of their ids: two replicas that touch the same ones do not deadlock.
_TOUCH = (
    update(diagrams)
    .where(
        _is_named_session,
        _diagram.id.in_(
            select(_diagram.id).where(_is_named_session).order_by(_diagram.id).with_for_update(key_share=True)
        ),
    )
    .values(session_activity_at=bindparam("now"))
    .returning(_diagram.session_id)
)


def open_session(
    connection: Connection, threat_model_id: str, diagram_id: str, host: Principal
) -> tuple[DiagramSession, bool]:
    """The diagram's session and whether this call created it, with `host` as its host.

    Runs in a transaction. Raises ApiError 404 (threat model, diagram) or 403 (not even a reader).
    """
    row = _readable(connection, _LOCK, threat_model_id, diagram_id, host)
    if row.session_id is not None:
        return _session(row), False
    now = _now()
    session_id = uuid4()
    connection.execute(
        _BEGIN,
        {"of_diagram_id": row.diagram_id, "new_session_id": session_id, "host": host.SerializeToString(), "now": now},
    )
    session = _description(row)
    session.session_id = session_id
    session.host.CopyFrom(host)
    session.start_vector = row.update_vector
    session.started_at = session.last_activity_at = to_milliseconds(now)
    return session, True


def get_session(
    connection: Connection,
    threat_model_id: str,
    diagram_id: str,
    principal: Principal,
    *,
    may_be_absent: bool,
    administrators_may: bool,
) -> DiagramSession:
    """The diagram's session; without a session_id when there is none and that may be.

    administrators_may: they need no role. Raises ApiError 404 or 403.
    """
    needs_role = not (administrators_may and principal.is_administrator)
    row = _readable(connection, _FIND, threat_model_id, diagram_id, principal, needs_role=needs_role)
    if row.session_id is None:
        if may_be_absent:
            return _description(row)
        raise not_found("The diagram has no collaboration session.")
    return _session(row)


def list_sessions(
    connection: Connection,
    principal: Principal | None,
    *,
    session_id: str | None = None,
    idle_since: int | None = None,
) -> list[DiagramSession]:
    """The live sessions that the principal may read, oldest first; every one without a principal.

    session_id: only this one. idle_since: only those without activity since (Unix milliseconds).
    """
    statement, parameters = _LIST_ALL, {}
    if principal is not None:
        statement, parameters = _LIST_READABLE, {PRINCIPAL_IDS: principal_ids(principal)}
    if session_id is not None:
        statement = statement.where(_diagram.session_id == session_id)
    if idle_since is not None:
        statement = statement.where(_diagram.session_activity_at <= _from_milliseconds(idle_since))
    return [_session(row) for row in connection.execute(statement, parameters)]


def close_session(connection: Connection, diagram_id: str, session_id: str, idle_since: int | None) -> bool:
    """Ends the session; True when this call did. idle_since: Unix milliseconds of the latest
    activity with which it still ends, None for any.

    A session that changed the diagram is one event, `diagram.updated` with its host as the actor, however many
    operations it had: subscribers learn that there is a new state, not each step of a drag.
    """
    row = connection.execute(
        _LOCK_TO_END,
        {
            "diagram_id": diagram_id,
            "session_id": session_id,
            "idle_since": None if idle_since is None else _from_milliseconds(idle_since),
        },
    ).one_or_none()
    if row is None:
        return False
    if row.update_vector == row.session_start_vector:
        connection.execute(_END, {"of_diagram_id": diagram_id})
        return True
    change = Change(
        actor=Principal.FromString(row.session_host),
        change_type="patched",
        object_type="diagram",
        root_id=row.threat_model_id,
        object_id=diagram_id,
        version=row.version,
        before={},
        summary=None,
        at=rfc3339.now(),
    )
    _ANNOUNCE_AND_END.execute(connection, {**recording.rows([change]), "of_diagram_id": diagram_id})
    return True


def touch_sessions(connection: Connection, session_ids: list[str]) -> list[str]:
    """Notes activity; returns those of the sessions that are still open."""
    return list(connection.scalars(_TOUCH, {"session_ids": session_ids, "now": _now()}))


def to_milliseconds(moment: datetime) -> int:
    """Unix time in milliseconds."""
    return round(moment.timestamp() * 1000)


def _now() -> datetime:
    now = rfc3339.now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _from_milliseconds(milliseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        raise invalid_input("idle_since is not a time.") from None


def _readable(
    connection: Connection,
    statement: Select[Any],
    threat_model_id: str,
    diagram_id: str,
    principal: Principal,
    *,
    needs_role: bool = True,
) -> Any:
    parameters = {"threat_model_id": threat_model_id, PRINCIPAL_IDS: principal_ids(principal)}
    row = connection.execute(statement, parameters | {"diagram_id": diagram_id}).one_or_none()
    model = row or connection.execute(_FIND_MODEL, parameters).one_or_none()
    if model is None:
        raise not_found("The threat model does not exist.")
    if needs_role and not model.role:
        raise forbidden("You have no role on this threat model.")
    if row is None:
        raise not_found("The diagram does not exist.")
    return row


def _description(row: Any) -> DiagramSession:
    return DiagramSession(
        threat_model_id=row.threat_model_id,
        threat_model_name=row.threat_model_name,
        diagram_id=row.diagram_id,
        diagram_name=row.diagram_name,
        role=getattr(row, "role", Role.ROLE_UNSPECIFIED),
    )


def _session(row: Any) -> DiagramSession:
    session = _description(row)
    session.session_id = row.session_id
    session.host.ParseFromString(row.session_host)
    session.start_vector = row.session_start_vector
    session.started_at = to_milliseconds(row.session_started_at)
    session.last_activity_at = to_milliseconds(row.session_activity_at)
    return session
