"""The audit entry and the outbox event of a change, written in its transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, bindparam

from services.shared.sql_dialect import InsertRows, WriteTogether
from services.shared.uuids import uuid7
from services.threat_model.audit.tables import audit_entries, outbox
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


_ENTRY = [column.name for column in audit_entries.c]
_EVENT = ["event_type", "threat_model_id", "object_id", "payload", "created_at"]

WRITES = (InsertRows(audit_entries, _ENTRY), InsertRows(outbox, _EVENT))
"""Write what `rows` made."""

# A snapshot may be large: a parameter of its own costs half of what it costs within rows.
_RECORD = WriteTogether(
    audit_entries.insert().values(
        {name: bindparam(f"entry_{name}", type_=audit_entries.c[name].type) for name in _ENTRY}
    ),
    outbox.insert().values({name: bindparam(f"event_{name}", type_=outbox.c[name].type) for name in _EVENT}),
)


def record(connection: Connection, actor: Principal, change: Change) -> None:
    """Writes the entry and the event."""
    entry = {f"entry_{name}": value for name, value in _entry(uuid7(), actor, change).items()}
    event = {f"event_{name}": value for name, value in _event(actor, change).items()}
    _RECORD.execute(connection, entry | event)


def rows(changes: Sequence[tuple[Principal, Change]]) -> dict[str, Any]:
    """The entries and the events of changes with their actors, as parameters of WRITES; for small snapshots."""
    ids = sorted(uuid7() for _ in changes)  # changes of one moment keep their order
    return {
        "audit_entries": [_entry(id_, actor, change) for id_, (actor, change) in zip(ids, changes, strict=True)],
        "outbox": [_event(actor, change) for actor, change in changes],
    }


def _entry(entry_id: str, actor: Principal, change: Change) -> dict[str, Any]:
    return {
        "id": entry_id,
        "threat_model_id": change.threat_model_id,
        "object_type": change.object_type,
        "object_id": change.object_id,
        "version": change.version,
        "change_type": change.change_type,
        "actor_email": actor.email,
        "actor_provider": actor.provider,
        "actor_provider_id": actor.provider_id,
        "actor_display_name": actor.display_name,
        "change_summary": change.summary,
        "before": change.snapshot,
        "created_at": change.at,
    }


def _event(actor: Principal, change: Change) -> dict[str, Any]:
    return {
        "event_type": f"{change.object_type}.{_EVENTS[change.change_type]}",
        "threat_model_id": change.threat_model_id,
        "object_id": change.object_id,
        "payload": {
            "object_type": change.object_type,
            "version": change.version,
            "actor": {
                "provider": actor.provider,
                "provider_id": actor.provider_id,
                "display_name": actor.display_name,
            },
        },
        "created_at": change.at,
    }
