"""The SQL of one resource, built once.

The order of locks, for everybody: the root; then rows by kind, in the order of the registry; then by id.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce
from operator import add
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    Table,
    and_,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.sql.visitors import iterate

from services.shared.sql_dialect import (
    InsertReturning,
    JsonUuid,
    UuidList,
    UuidText,
    WriteReturning,
    is_one_of,
    json_array,
    json_object,
)
from services.threat_model.resources import filters
from services.threat_model.resources.declaration import Registry, Resource, Scope

SCOPE_ID = bindparam("scope_id", type_=UuidText)
ROW_ID = bindparam("row_id", type_=UuidText)
ROW_IDS = bindparam("row_ids", type_=UuidList())

METADATA = "metadata"


class Statements:
    """Parameters: `scope_id` of the root, `row_id` or `row_ids`, and the ids that count for the caller."""

    def __init__(self, resource: Resource, registry: Registry) -> None:
        table, scope = resource.table, resource.scope
        self._resource = resource
        self._embedded_bytes = _embedded_bytes(scope, registry.embedded_beside(resource))
        self._role = scope.role.label("role")
        self._live_root = (scope.root.c.id == SCOPE_ID, scope.live)
        self.root = select(self._role).where(*self._live_root)
        self.share_root = self.root.add_columns(*self._embedded_bytes).with_for_update(read=True, of=scope.root)
        self.lock = lru_cache(maxsize=64)(self._lock)
        self.page = lru_cache(maxsize=256)(self._page)
        self.read = lru_cache(maxsize=64)(self._read)
        self.get = self._get(resource.document)
        self.update = table.update().where(table.c.id == ROW_ID)
        self.answering_document = WriteReturning(self.update, resource.document, table.c.id)
        in_new_row = {**resource.members, **resource.embedded, **resource.when_new}
        new_document = json_object(in_new_row)
        self.insert = lru_cache(maxsize=4)(
            lambda columns: InsertReturning(table, columns, None if _looks_elsewhere(new_document) else new_document)
        )
        self.documents = select(table.c.id, resource.document).where(is_one_of(table.c.id, ROW_IDS))
        if METADATA in resource.members:
            self.get_metadata = self._get(resource.members[METADATA])
            self.answering_metadata = WriteReturning(self.update, resource.members[METADATA], table.c.id)

    @property
    def _source(self) -> FromClause:
        """The rows of a root, live or not; its own row for a root."""
        resource = self._resource
        if resource.is_root:
            return resource.table
        return resource.scope.root.join(resource.table, self._belongs)

    @property
    def _belongs(self) -> ColumnElement[bool]:
        """A child's row stands under the root."""
        scope = self._resource.scope
        return self._resource.table.c[scope.id_field] == scope.root.c.id

    def _get(self, answer: ColumnElement[str]) -> Select[Any]:
        """Role, version and answer of one live row; no row for a missing root, no version for a missing child."""
        resource = self._resource
        table, root = resource.table, resource.scope.root
        columns = select(self._role, table.c.version, answer.label("answer"))
        if resource.is_root:
            return columns.where(*self._live_root)
        live = and_(table.c.id == ROW_ID, self._belongs, table.c.deleted_at.is_(None))
        return columns.select_from(root.outerjoin(table, live)).where(*self._live_root)

    def _read(self, members: frozenset[str], *, deleted: bool = False) -> Select[Any]:
        """Rows by `row_ids`: role, version, these members as `document`, and what the rules have to see.

        deleted: also those that are deleted, and whether they are.
        """
        resource = self._resource
        table, scope = resource.table, resource.scope
        # The first member of a JSON object may not be left out, so it is the id.
        document = json_object({"id": JsonUuid(table.c.id)} | {n: resource.members[n] for n in _in(resource, members)})
        where = [is_one_of(table.c.id, ROW_IDS)]
        where += [scope.root.c.id == SCOPE_ID] if resource.is_root and deleted else self._live_root
        if not deleted:
            where.append(table.c.deleted_at.is_(None))
        return (
            select(
                table.c.id,
                self._role,
                *_versions(table, "version", "read_version"),
                table.c.deleted_at,
                document.label("document"),
                *(self._embedded_bytes if members or deleted else ()),
                *((resource.row_bytes.label("row_bytes"),) if deleted else ()),
                *resource.rules.reads(members),
            )
            .select_from(self._source)
            .where(*where)
            .order_by(table.c.id)
        )

    def _lock(
        self, members: frozenset[str], *, deleted: bool = False, root: Literal["", "shared", "held"] = ""
    ) -> Select[Any]:
        """The same, locked in the order of their ids. root: locked before them, `shared` or `held` for oneself."""
        table, scope = self._resource.table, self._resource.scope
        read = self._read(members, deleted=deleted)
        if not root:
            return read.with_for_update(of=table, key_share=True)
        read = read.add_columns(*_versions(scope.root, "root_version", "root_read_version"))
        if root == "held":
            return read.with_for_update(of=[scope.root, table], key_share=True)
        shared = read.with_for_update(read=True, of=scope.root)
        return shared.suffix_with(f"FOR NO KEY UPDATE OF {table.name}", dialect="postgresql")

    def _page(self, filter_names: tuple[str, ...], sort: filters.Sort | None, *, include_deleted: bool) -> Select[Any]:
        """Total and page; with the role for children, no row when their root is missing."""
        resource = self._resource
        table, scope = resource.table, resource.scope
        matching = [
            scope.visible if resource.is_root else self._belongs,
            *filters.predicates(resource.filters, filter_names),
        ]
        if not include_deleted:
            matching.append(table.c.deleted_at.is_(None))
        order = filters.order(sort, resource.sort_keys, resource.default_order, table.c.id)
        items = (
            select(resource.list_item)
            .where(*matching)
            .order_by(*order)
            .limit(bindparam("limit", type_=Integer()))
            .offset(bindparam("offset", type_=Integer()))
        )
        total = select(func.count()).select_from(table).where(*matching)
        if resource.is_root:
            return select(total.scalar_subquery().label("total"), json_array(items).label("page"))
        total, items = total.correlate(scope.root), items.correlate(scope.root)
        page = select(self._role, total.scalar_subquery().label("total"), json_array(items).label("page"))
        return page.where(*self._live_root)


def _versions(table: Table, present: str, read: str) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """The version of a row that is locked, and the one that the statement began with: they differ after a wait."""
    again = table.alias(f"{table.name}_read")
    begun = select(again.c.version).where(again.c.id == table.c.id).correlate(table).scalar_subquery()
    return table.c.version.label(present), begun.label(read)


def _embedded_bytes(scope: Scope, children: Sequence[Resource]) -> list[ColumnElement[int]]:
    """Bytes of the live children that a root embeds, as a column; none for what no root embeds."""
    totals: list[ColumnElement[int]] = []
    for child in children:
        table = child.table
        total = cast(func.coalesce(func.sum(child.row_bytes), 0), BigInteger)
        live = (table.c[scope.id_field] == scope.root.c.id, table.c.deleted_at.is_(None))
        totals.append(select(total).where(*live).correlate(scope.root).scalar_subquery())
    return [reduce(add, totals).label("embedded_bytes")] if totals else []


def _looks_elsewhere(expression: ColumnElement[Any]) -> bool:
    return any(isinstance(part, ScalarSelect) for part in iterate(expression))


def _in(resource: Resource, members: Iterable[str]) -> list[str]:
    """Those of the names that are members, in the document's order."""
    wanted = set(members)
    return [name for name in resource.members if name in wanted and name != "id"]
