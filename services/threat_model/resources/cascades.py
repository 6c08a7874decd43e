"""What a deletion and a restoration of rows mean to rows of other kinds. Each row touched is a change of its own."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam

from services.shared.sql_dialect import LockedUpdate, TextList, UtcDateTime, UuidList, UuidText, is_one_of
from services.threat_model.audit.recording import Change, ChangeType
from services.threat_model.resources.declaration import Reference, Registry, Resource
from tmi.principal.v1.principal_pb2 import Principal

_ROOT_ID = bindparam("root_id", type_=UuidText)
_NOW = bindparam("now", type_=UtcDateTime())
_DELETED_AT = bindparam("deleted_with", type_=UtcDateTime())
_NAMED_IDS = bindparam("named_ids", type_=UuidList())
_NAMED_PARTS = bindparam("named_ids", type_=TextList())
_HOLDER_ID = bindparam("holder_id", type_=UuidText)


class References:
    """The references to rows of one kind, or to parts of rows: each is cleared when what it names is no more."""

    def __init__(self, kind: str, registry: Registry) -> None:
        self._forgettings = [(other, ref, _forgetting(other, ref)) for other, ref in registry.referrers(kind)]

    def forget(
        self, connection: Connection, gone: Mapping[str, Principal], root_id: str, now: datetime, holder_id: str = ""
    ) -> list[Change]:
        """Clears the references to what is gone. gone: ids, and who removed each. holder_id: of the row it was part of.

        The rows of one kind are locked in the order of their ids.
        """
        parameters = {"named_ids": list(gone), "root_id": root_id, "holder_id": holder_id, "now": now}
        changes = []
        for other, reference, statement in self._forgettings:
            for freed in statement.execute(connection, parameters):
                lost = {name: value for name in reference.columns if (value := getattr(freed, name)) is not None}
                summary = f"the {reference.kind} it named was deleted"
                actor = gone[lost[reference.columns[0]]]
                changes.append(_change(actor, "updated", other, root_id, freed, now, lost, summary))
        return changes


class Cascades:
    """The kinds of rows that hang on those of one resource."""

    def __init__(self, resource: Resource, registry: Registry) -> None:
        self._resource = resource
        children = registry.cascading(resource)
        self._deletions = [(child, _deletion(child)) for child in children]
        self._restorations = [(child, _restoration(child)) for child in children]
        self._references = References(resource.kind, registry)
        self._references_to_parts = {kind: References(kind, registry) for kind in registry.parts(resource)}

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
        gone = {row.id: actor for row in rows}
        return changes + self._references.forget(connection, gone, root_id, now)

    def forget_parts(
        self,
        connection: Connection,
        actor: Principal,
        root_id: str,
        row_id: str,
        gone: Mapping[str, Collection[str]],
        now: datetime,
    ) -> list[Change]:
        """Clears the references to parts of a row. gone: ids by kind."""
        return [
            change
            for kind, ids in gone.items()
            if ids
            for change in self._references_to_parts[kind].forget(
                connection, dict.fromkeys(ids, actor), root_id, now, row_id
            )
        ]

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
    names_it = is_one_of(columns[0], _NAMED_IDS)
    if reference.within:
        holder = table.c[reference.within]
        names_it = is_one_of(columns[0], _NAMED_PARTS) & (table.c[other.scope.id_field] == _ROOT_ID)
        names_it &= (holder == _HOLDER_ID) | holder.is_(None)
    return LockedUpdate(
        table,
        names_it,
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
