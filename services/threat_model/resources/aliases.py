"""The aliases that people call objects by: small numbers, unique within a root and a kind, never used twice."""

from sqlalchemy import Connection

from services.shared import sql_dialect
from services.threat_model.resources.tables import NO_SCOPE, alias_counters


def next_aliases(connection: Connection, scope_id: str, kind: str, count: int) -> int:
    """The first of `count` new aliases of a kind within a scope, from 1.

    An empty scope_id is the whole system. Serialises creators of that kind until commit.
    """
    statement = sql_dialect.insert(connection, alias_counters).values(
        scope_id=scope_id or NO_SCOPE, kind=kind, next_alias=1 + count
    )
    statement = statement.on_conflict_do_update(
        index_elements=[alias_counters.c.scope_id, alias_counters.c.kind],
        set_={"next_alias": alias_counters.c.next_alias + count},
    ).returning(alias_counters.c.next_alias - count)
    first: int = connection.execute(statement).scalar_one()
    return first
