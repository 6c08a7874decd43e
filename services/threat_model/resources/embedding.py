"""What the documents of a root hold and count of its children, as their declarations say."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from services.shared.sql_dialect import JsonVerbatim, json_array
from services.threat_model.resources.declaration import Resource


def embedded(children: Sequence[Resource]) -> dict[str, ColumnElement[Any]]:
    """Members with the live children whose kinds are embedded, by the plural of each."""
    members: dict[str, ColumnElement[Any]] = {}
    for child in children:
        if child.in_parent and child.in_parent.embedded:
            rows = _live(child, child.document).order_by(*child.default_order, child.table.c.id)
            members[child.plural] = json_array(rows)
    return members


def counts(children: Sequence[Resource]) -> dict[str, ColumnElement[Any]]:
    """Members with the numbers of live children whose kinds are counted."""
    return {
        child.in_parent.counted_as: JsonVerbatim(_live(child, func.count()).scalar_subquery())
        for child in children
        if child.in_parent and child.in_parent.counted_as
    }


def _live(child: Resource, what: ColumnElement[Any]) -> Select[Any]:
    table, root = child.table, child.scope.root
    belongs = table.c[child.scope.id_field] == root.c.id
    return select(what).select_from(table).where(belongs, table.c.deleted_at.is_(None)).correlate(root)
