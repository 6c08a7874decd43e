"""The aliases that people call objects by: small numbers, unique within a root and a kind, never used twice."""

from typing import Any

from sqlalchemy import Connection, bindparam

from services.shared import sql_dialect
from services.threat_model.resources.tables import NO_SCOPE, alias_counters

_c = alias_counters.c
_STATEMENTS: dict[str, Any] = {}
"""By dialect: making the statement costs more than executing it."""


def next_aliases(connection: Connection, scope_id: str, kind: str, count: int) -> int:
    """The first of `count` new aliases of a kind within a scope, from 1.

    An empty scope_id is the whole system. Serialises creators of that kind until commit.
    """
    dialect = connection.dialect.name
    if dialect not in _STATEMENTS:
        _STATEMENTS[dialect] = _statement(connection)
    parameters = {"scope_id": scope_id or NO_SCOPE, "kind": kind, "next_alias": 1 + count, "number": count}
    first: int = connection.execute(_STATEMENTS[dialect], parameters).scalar_one()
    return first


def _statement(connection: Connection) -> Any:
    number = bindparam("number", type_=_c.next_alias.type)
    statement = sql_dialect.insert(connection, alias_counters).values(
        {name: bindparam(name, type_=_c[name].type) for name in ("scope_id", "kind", "next_alias")}
    )
    return statement.on_conflict_do_update(
        index_elements=[_c.scope_id, _c.kind], set_={"next_alias": _c.next_alias + number}
    ).returning(_c.next_alias - number)
