"""The audit entry and the outbox event of a change, written in its transaction.

Every change of a row's `version` leaves exactly one entry with that version, and the entry keeps what the
change took away. So the state at any earlier version is found by going back from the present one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import Connection

from services.shared.sql_dialect import InsertRows, WriteTogether
from services.shared.uuids import uuid7
from services.threat_model.audit.events import SUBSCRIBABLE
from services.threat_model.audit.tables import audit_entries, outbox
from tmi.principal.v1.principal_pb2 import Principal

ChangeType = Literal["created", "updated", "patched", "deleted", "restored", "rolled_back"]

_EVENTS: Mapping[ChangeType, str] = {
    "created": "created",
    "updated": "updated",
    "patched": "updated",
    "deleted": "deleted",
    "restored": "updated",
    "rolled_back": "updated",
}

_VALUE_LENGTH = 50
_ABSENT: tuple[Any, ...] = (None, [], {})


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object by one person.

    root_id: of what the object stands under, itself for a root. version: of the object after the change.
    before: the members that the change took away, with their former values, None for one that had none;
    empty for a creation, a deletion and a restoration, which take nothing away. summary: for people.
    """

    actor: Principal
    change_type: ChangeType
    object_type: str
    root_id: str
    object_id: str
    version: int
    before: Mapping[str, Any]
    summary: str | None
    at: datetime


def changed_members(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Former values of the members of `after` that differ."""
    return {name: before.get(name) for name, value in after.items() if not _is_same(before.get(name), value)}


def summarize(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """`name: "a" -> "b"` for each member of `after` that differs from `before`, values cut short."""
    parts = []
    for name, old in changed_members(before, after).items():
        value = after[name]
        if old in _ABSENT:
            parts.append(f"{name}: added {_short(value)}")
        elif value in _ABSENT:
            parts.append(f"{name}: removed")
        else:
            parts.append(f"{name}: {_short(old)} -> {_short(value)}")
    return "; ".join(parts) or None


def _is_same(old: Any, new: Any) -> bool:
    """Equal, when what has no value is left out of objects, as documents do."""
    old, new = _bare(old), _bare(new)
    return bool(old == new) or (old in _ABSENT and new in _ABSENT)


def _bare(value: Any) -> Any:
    return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value


def _short(value: Any) -> str:
    if isinstance(value, list | dict) and len(value) > _VALUE_LENGTH:
        return f"[{len(value)} items]"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _VALUE_LENGTH else text[:_VALUE_LENGTH] + "…"


_EVENT = ["event_type", "root_id", "object_id", "payload", "created_at"]

WRITES = (
    InsertRows(audit_entries, [column.name for column in audit_entries.c]),
    InsertRows(outbox, _EVENT),
)
"""Write what `rows` made."""

_RECORD = WriteTogether(*WRITES)


def record(connection: Connection, changes: Sequence[Change]) -> None:
    """Writes the entries and the events: one statement, where the database can, however many."""
    _RECORD.execute(connection, rows(changes))


def rows(changes: Sequence[Change], *, announced: Sequence[Change] | None = None) -> dict[str, Any]:
    """The entries of changes, and the events that somebody can subscribe to, as parameters of WRITES.

    announced: those of the changes that are events; all of them when it is not said.
    """
    ids = sorted(uuid7() for _ in changes)  # changes of one moment keep their order
    events = map(_event, changes if announced is None else announced)
    return {
        "audit_entries": [_entry(id_, change) for id_, change in zip(ids, changes, strict=True)],
        "outbox": [event for event in events if event["event_type"] in SUBSCRIBABLE],
    }


def _entry(entry_id: str, change: Change) -> dict[str, Any]:
    actor = change.actor
    return {
        "id": entry_id,
        "root_id": change.root_id,
        "object_type": change.object_type,
        "object_id": change.object_id,
        "version": change.version,
        "change_type": change.change_type,
        "actor_email": actor.email,
        "actor_provider": actor.provider,
        "actor_provider_id": actor.provider_id,
        "actor_display_name": actor.display_name,
        "change_summary": change.summary,
        "before": change.before or None,
        "created_at": change.at,
    }


def _event(change: Change) -> dict[str, Any]:
    actor = change.actor
    return {
        "event_type": f"{change.object_type}.{_EVENTS[change.change_type]}",
        "root_id": change.root_id,
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
