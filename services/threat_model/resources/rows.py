"""The locked, versioned, audited rows of one resource, within a transaction.

What every write does, whichever operation asks for it: lock, with the caller's role read beside the row and
checked; change columns and count the version; record the change. All of it for one row or for several.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, Row, select

from services.shared.principal import Call
from services.threat_model.access import roles
from services.threat_model.audit import recording
from services.threat_model.audit.recording import Change, ChangeType
from services.threat_model.resources import bounds
from services.threat_model.resources.aliases import next_aliases
from services.threat_model.resources.cascades import Cascades
from services.threat_model.resources.declaration import ROW_BYTES, Members, Registry, Resource, Write
from services.threat_model.resources.statements import METADATA, Statements

Answer = Literal["document", "metadata"]


@dataclass(frozen=True, slots=True)
class Target:
    """A collection of rows: of this root, for this caller. scope_id is empty for a collection of roots."""

    scope_id: str
    call: Call

    def parameters(self, row_ids: Sequence[str] = ()) -> dict[str, Any]:
        """Of the statements: the root, the rows, and the ids that count for the caller."""
        return {
            "scope_id": self.scope_id,
            "row_id": row_ids[0] if row_ids else None,
            "row_ids": row_ids,
            roles.PRINCIPAL_IDS: roles.principal_ids(self.call.caller),
        }


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of a locked row: the members to be set, and what was prepared for them."""

    row: Row[Any]
    values: Members
    prepared: Any = None


class Rows:
    """The rows of one resource. Methods raise ApiError 403 and 404 as the operation's declaration asks."""

    def __init__(self, resource: Resource, registry: Registry) -> None:
        self.resource = resource
        self.statements = Statements(resource, registry)
        self._cascades = Cascades(resource, registry)
        self._references = {column for reference in resource.references for column in reference.columns}
        self._is_referred_to = bool(registry.referrers(resource.kind))

    def members_with(self, members: Iterable[str]) -> frozenset[str]:
        """The members to be read for a write of these; "" stands for all of them."""
        wanted = set(members)
        if "" in wanted:
            return frozenset(self.resource.members)
        if wanted & self.resource.together:
            wanted |= self.resource.together
        return frozenset(wanted & self.resource.members.keys())

    def read(self, connection: Connection, target: Target, row_id: str, members: frozenset[str]) -> Row[Any]:
        """The live row without a lock."""
        rows = connection.execute(self.statements.read(members), target.parameters([row_id])).all()
        return self._all_found(connection, target, [row_id], rows)[0]

    def lock(self, connection: Connection, target: Target, row_id: str, members: frozenset[str]) -> Row[Any]:
        """The live row, locked, with these members."""
        return self.lock_many(connection, target, [row_id], members)[0]

    def lock_many(
        self, connection: Connection, target: Target, row_ids: Sequence[str], members: frozenset[str]
    ) -> list[Row[Any]]:
        """The live rows, locked, in the order of the ids."""
        root: Literal["", "shared"] = "shared" if members & self._references else ""
        return self._lock(connection, target, row_ids, self.statements.lock(members, root=root))

    def lock_to_delete(self, connection: Connection, target: Target, row_ids: Sequence[str]) -> list[Row[Any]]:
        """The live rows, locked, and before them the root, if others may name the rows."""
        root: Literal["", "held"] = "held" if self._is_referred_to else ""
        return self._lock(connection, target, row_ids, self.statements.lock(frozenset(), root=root))

    def lock_deleted(self, connection: Connection, target: Target, row_id: str) -> Row[Any]:
        """The row, live or deleted, locked."""
        return self._lock(connection, target, [row_id], self.statements.lock(frozenset(), deleted=True))[0]

    def unused(self, connection: Connection, row_ids: Sequence[str]) -> set[str]:
        """Those of the ids that no row has, live or deleted, of whichever root."""
        table = self.resource.table
        return set(row_ids).difference(connection.scalars(select(table.c.id).where(table.c.id.in_(row_ids))))

    def _lock(self, connection: Connection, target: Target, row_ids: Sequence[str], statement: Any) -> list[Row[Any]]:
        parameters = target.parameters(row_ids)
        rows = connection.execute(statement, parameters).all()
        if any(_was_waited_for(row) for row in rows):
            # What is locked is the present row; what was read beside it is older.
            rows = connection.execute(statement, parameters).all()
        return self._all_found(connection, target, row_ids, rows)

    def _all_found(
        self, connection: Connection, target: Target, row_ids: Sequence[str], rows: Sequence[Row[Any]]
    ) -> list[Row[Any]]:
        found = {row.id: row for row in rows}
        if len(found) < len(set(row_ids)):
            if not self.resource.is_root:
                self.require_root(connection, target, self.statements.root)
            raise self.resource.missing()
        for row in rows:
            target.call.require(row.role)
        return [found[row_id] for row_id in row_ids]

    def require_root(self, connection: Connection, target: Target, statement: Any) -> Row[Any]:
        """The root. Raises ApiError 404 when it is missing, 403 when the caller's role on it is not enough."""
        root: Row[Any] | None = connection.execute(statement, target.parameters()).one_or_none()
        if root is None:
            raise self.resource.scope.missing()
        target.call.require(root.role)
        return root

    def change(
        self,
        connection: Connection,
        target: Target,
        revisions: Sequence[Revision],
        change_type: ChangeType,
        now: datetime,
        answer: Answer = "document",
    ) -> dict[str, str]:
        """Sets members of locked rows; the answers, JSON texts, by id."""
        answers = {}
        changes = []
        growth = 0
        for revision in revisions:
            row = revision.row
            before = orjson.loads(row.document)
            write = Write(
                connection=connection,
                call=target.call,
                change_type=change_type,
                scope_id=target.scope_id,
                row_id=row.id,
                row=row,
                before=before,
                values=revision.values,
                prepared=revision.prepared,
                now=now,
            )
            self.resource.rules.guard(row, frozenset(revision.values))
            self.resource.rules.check(write)
            stored = self.resource.rules.store(write)
            statement = self.statements.answering_metadata if answer == METADATA else self.statements.answering_document
            version = row.version + 1
            columns = stored.columns | {"row_id": row.id, "version": version, "modified_at": now}
            answers[row.id] = statement.scalar(connection, columns, row.id)
            told = {name: value for name, value in revision.values.items() if name not in self.resource.untold}
            growth += bounds.size(told) - bounds.size({name: before.get(name) for name in told})
            bounds.require_room(row, growth)
            bounds.require_deliverable(answers[row.id])
            changes += self._cascades.forget_parts(
                connection, target.call.caller, target.scope_id, row.id, stored.gone, now
            )
            lost = recording.changed_members(before, told) | dict(stored.remembered)
            changes.append(self._changed(target, change_type, row.id, version, now, lost, before, told))
        if changes:
            recording.record(connection, changes)
        return answers

    def create(
        self, connection: Connection, target: Target, drafts: Mapping[str, Members], now: datetime, prepared: Any = None
    ) -> dict[str, str]:
        """New rows, their members by id; the documents by id, in order."""
        resource = self.resource
        if not resource.is_root:
            root = self.require_root(connection, target, self.statements.share_root)
            bounds.require_room(root, sum(ROW_BYTES + bounds.size(values) for values in drafts.values()))
        writes = [
            Write(connection, target.call, "created", target.scope_id or id_, id_, None, {}, values, prepared, now)
            for id_, values in drafts.items()
        ]
        rows = []
        for write in writes:
            resource.rules.check(write)
            given = {"id": write.row_id, "version": 1, "created_at": now, "modified_at": now}
            if not resource.is_root:
                given[resource.scope.id_field] = target.scope_id
            rows.append(resource.rules.store(write).columns | given)
        if "alias" in resource.table.c:
            first = next_aliases(connection, target.scope_id, resource.kind, len(rows))
            for number, row in enumerate(rows):
                row["alias"] = first + number
        documents = self.statements.insert(tuple(sorted(rows[0]))).execute(connection, rows)
        for write in writes:
            resource.rules.created(write)
        if not documents:
            found = connection.execute(self.statements.documents, {"row_ids": list(drafts)})
            documents = {row.id: row[1] for row in found}
        recording.record(
            connection,
            [self._changed(target, "created", write.row_id, 1, now, {}, {}, {}) for write in writes],
        )
        return {id_: documents[id_] for id_ in drafts}

    def delete(self, connection: Connection, target: Target, rows: Sequence[Row[Any]], now: datetime) -> None:
        """Deletes locked rows softly, with what hangs on them: one instant for all."""
        for row in rows:
            self.resource.rules.guard(row, None)
        changes = self._cascades.delete(connection, target.call.caller, target.scope_id, rows, now)
        for row in rows:
            version = row.version + 1
            connection.execute(self.statements.update, {"row_id": row.id, "deleted_at": now, "version": version})
            changes.append(self._changed(target, "deleted", row.id, version, now, {}, {}, {}))
        recording.record(connection, changes)

    def restore(self, connection: Connection, target: Target, row: Row[Any], now: datetime) -> str:
        """Takes a deletion back, and that of what was deleted with it; the document."""
        self.resource.rules.restore(row)
        bounds.require_room(row, row.row_bytes)
        changes = self._cascades.restore(connection, target.call.caller, row, now)
        version = row.version + 1
        changes.append(self._changed(target, "restored", row.id, version, now, {}, {}, {}))
        columns = {"row_id": row.id, "deleted_at": None, "version": version, "modified_at": now}
        document: str = self.statements.answering_document.scalar(connection, columns, row.id)
        bounds.require_deliverable(document)
        recording.record(connection, changes)
        return document

    def _changed(
        self,
        target: Target,
        change_type: ChangeType,
        row_id: str,
        version: int,
        now: datetime,
        lost: Members,
        before: Members,
        after: Members,
    ) -> Change:
        summary = recording.summarize(before, after) if after else None
        root_id = target.scope_id or row_id
        actor = target.call.caller
        return Change(actor, change_type, self.resource.kind, root_id, row_id, version, lost, summary, now)


def _was_waited_for(row: Row[Any]) -> bool:
    """True when the row, or its root if that was locked too, was changed between the statement's begin and its lock."""
    changed: bool = row.version != row.read_version
    return changed or ("root_version" in row._mapping and row.root_version != row.root_read_version)
