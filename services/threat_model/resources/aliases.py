"""The aliases that people call objects by: small numbers, unique within a scope, never used twice."""

from sqlalchemy import Connection

from services.shared import sql_dialect
from services.threat_model.resources.tables import alias_counters


def next_alias(connection: Connection, scope_id: str, kind: str) -> int:
    """The next alias of a kind within a scope, from 1. Serialises creators of that kind until commit."""
    statement = sql_dialect.insert(connection, alias_counters).values(scope_id=scope_id, kind=kind, next_alias=2)
    statement = statement.on_conflict_do_update(
        index_elements=[alias_counters.c.scope_id, alias_counters.c.kind],
        set_={"next_alias": alias_counters.c.next_alias + 1},
    ).returning(alias_counters.c.next_alias - 1)
    alias: int = connection.execute(statement).scalar_one()
    return alias
