"""What a deletion and a restoration of rows mean to rows of other kinds. Each row touched is a change of its own."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam

from services.shared.sql_dialect import LockedUpdate, UtcDateTime, UuidList, UuidText, is_one_of
from services.threat_model.audit.recording import Change, ChangeType
from services.threat_model.resources.declaration import Reference, Registry, Resource
from tmi.principal.v1.principal_pb2 import Principal

_ROOT_ID = bindparam("root_id", type_=UuidText)
_NOW = bindparam("now", type_=UtcDateTime())
_DELETED_AT = bindparam("deleted_with", type_=UtcDateTime())
_NAMED_IDS = bindparam("named_ids", type_=UuidList())


class Cascades:
    """The kinds of rows that hang on those of one resource."""

    def __init__(self, resource: Resource, registry: Registry) -> None:
        self._resource = resource
        children = registry.cascading(resource)
        self._deletions = [(child, _deletion(child)) for child in children]
        self._restorations = [(child, _restoration(child)) for child in children]
        self._forgettings = [(other, ref, _forgetting(other, ref)) for other, ref in registry.referrers(resource)]

    def delete(
        self, connection: Connection, actor: Principal, root_id: str, rows: Sequence[Row[Any]], now: datetime
    ) -> list[Change]:
        """Deletes the children of roots and clears the references to rows."""
        changes = []
        for child, statement in self._deletions:
            for row in rows:
                for deleted in statement.execute(connection, {"root_id": row.id, "now": now}):
                    child.rules.guard(deleted, None)
                    changes.append(_change(actor, "deleted", child, row.id, deleted, now))
        for other, reference, statement in self._forgettings:
            for freed in statement.execute(connection, {"named_ids": [row.id for row in rows], "now": now}):
                lost = {name: value for name in reference.columns if (value := getattr(freed, name)) is not None}
                summary = f"the {reference.kind} it named was deleted"
                changes.append(_change(actor, "updated", other, root_id, freed, now, lost, summary))
        return changes

    def restore(self, connection: Connection, actor: Principal, row: Row[Any], now: datetime) -> list[Change]:
        """Restores the children that were deleted at the same instant as a root."""
        parameters = {"root_id": row.id, "deleted_with": row.deleted_at, "now": now}
        return [
            _change(actor, "restored", child, row.id, restored, now)
            for child, statement in self._restorations
            for restored in statement.execute(connection, parameters)
        ]


def _deletion(child: Resource) -> LockedUpdate:
    table = child.table
    return LockedUpdate(
        table,
        (table.c[child.scope.id_field] == _ROOT_ID) & table.c.deleted_at.is_(None),
        {"deleted_at": _NOW, "version": table.c.version + 1},
        (table.c.version, *child.rules.reads(frozenset())),
    )


def _restoration(child: Resource) -> LockedUpdate:
    table = child.table
    return LockedUpdate(
        table,
        (table.c[child.scope.id_field] == _ROOT_ID) & (table.c.deleted_at == _DELETED_AT),
        {"deleted_at": None, "version": table.c.version + 1, "modified_at": _NOW},
        (table.c.version,),
    )


def _forgetting(other: Resource, reference: Reference) -> LockedUpdate:
    table = other.table
    columns = [table.c[name] for name in reference.columns]
    return LockedUpdate(
        table,
        is_one_of(columns[0], _NAMED_IDS),
        dict.fromkeys(reference.columns) | {"version": table.c.version + 1, "modified_at": _NOW},
        (table.c.version, *columns),
    )


def _change(
    actor: Principal,
    change_type: ChangeType,
    resource: Resource,
    root_id: str,
    row: Row[Any],
    now: datetime,
    lost: dict[str, Any] | None = None,
    summary: str | None = None,
) -> Change:
    return Change(actor, change_type, resource.kind, root_id, row.id, row.version + 1, lost or {}, summary, now)
