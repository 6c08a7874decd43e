"""The audit entry and the outbox event of a change, written in its transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, bindparam

from services.shared import sql_dialect
from services.threat_model.identifiers import uuid7
from services.threat_model.tables import audit_entries, outbox
from tmi.principal.v1.principal_pb2 import Principal

ChangeType = Literal["created", "updated", "patched", "deleted"]

_EVENTS = {"created": "created", "updated": "updated", "patched": "updated", "deleted": "deleted"}

_VALUE_LENGTH = 50
_ABSENT: tuple[Any, ...] = (None, [], {})


@dataclass(frozen=True)
class Change:
    """One change of one object.

    version: of the object after the change. snapshot: its document before the change, after it for
    `created`; None for a collaboration operation, whose log says what it did. summary: what changed,
    for people.
    """

    change_type: ChangeType
    object_type: str
    threat_model_id: str
    object_id: str
    version: int
    snapshot: bytes | None
    summary: str | None
    at: datetime


def summarize(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """`name: "a" -> "b"` for each member of `after` that differs from `before`, values cut short."""
    parts = []
    for name, value in after.items():
        old = before.get(name)
        if old == value or (old in _ABSENT and value in _ABSENT):
            continue
        if old in _ABSENT:
            parts.append(f"{name}: added {_short(value)}")
        elif value in _ABSENT:
            parts.append(f"{name}: removed")
        else:
            parts.append(f"{name}: {_short(old)} -> {_short(value)}")
    return "; ".join(parts) or None


def _short(value: Any) -> str:
    if isinstance(value, list | dict) and len(value) > _VALUE_LENGTH:
        return f"[{len(value)} items]"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _VALUE_LENGTH else text[:_VALUE_LENGTH] + "…"


_AUDIT = {column.name: bindparam(f"audit_{column.name}", type_=column.type) for column in audit_entries.c}
_EVENT = {
    name: bindparam(f"event_{name}", type_=outbox.c[name].type)
    for name in ("event_type", "threat_model_id", "object_id", "payload", "created_at")
}
_INSERT_AUDIT = audit_entries.insert().values(_AUDIT)
_INSERT_EVENT = outbox.insert().values(_EVENT)
_RECORD = sql_dialect.InsertBoth(_INSERT_AUDIT, _INSERT_EVENT)


def record(connection: Connection, actor: Principal, change: Change) -> None:
    """Writes the entry and the event."""
    _RECORD.execute(connection, _entry(uuid7(), actor, change), _event(actor, change))


def record_all(connection: Connection, changes: Sequence[tuple[Principal, Change]]) -> None:
    """Writes the entries and the events of several changes, in at most two statements."""
    if len(changes) == 1:
        record(connection, *changes[0])
        return
    ids = sorted(uuid7() for _ in changes)  # changes of one moment keep their order
    connection.execute(
        _INSERT_AUDIT, [_entry(id_, actor, change) for id_, (actor, change) in zip(ids, changes, strict=True)]
    )
    connection.execute(_INSERT_EVENT, [_event(actor, change) for actor, change in changes])


def _entry(entry_id: str, actor: Principal, change: Change) -> dict[str, Any]:
    return {
        "audit_id": entry_id,
        "audit_threat_model_id": change.threat_model_id,
        "audit_object_type": change.object_type,
        "audit_object_id": change.object_id,
        "audit_version": change.version,
        "audit_change_type": change.change_type,
        "audit_actor_email": actor.email,
        "audit_actor_provider": actor.provider,
        "audit_actor_provider_id": actor.provider_id,
        "audit_actor_display_name": actor.display_name,
        "audit_change_summary": change.summary,
        "audit_before": change.snapshot,
        "audit_created_at": change.at,
    }


def _event(actor: Principal, change: Change) -> dict[str, Any]:
    return {
        "event_event_type": f"{change.object_type}.{_EVENTS[change.change_type]}",
        "event_threat_model_id": change.threat_model_id,
        "event_object_id": change.object_id,
        "event_payload": {
            "object_type": change.object_type,
            "version": change.version,
            "actor": {
                "provider": actor.provider,
                "provider_id": actor.provider_id,
                "display_name": actor.display_name,
            },
        },
        "event_created_at": change.at,
    }
