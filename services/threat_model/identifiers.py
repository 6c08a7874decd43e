"""Ids of new rows, and the aliases people call them by."""

import secrets
import time
import uuid

from sqlalchemy import Connection

from services.shared import sql_dialect
from services.threat_model.tables import alias_counters


def uuid4() -> str:
    """A random UUID (RFC 9562 section 5.4) as canonical text."""
    return str(uuid.uuid4())


def uuid7() -> str:
    """A UUID that sorts by its time of creation to the millisecond (RFC 9562 section 5.7)."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def next_alias(connection: Connection, scope_id: str, kind: str) -> int:
    """The next alias of a kind within a scope, from 1. Serialises creators of that kind until commit."""
    statement = sql_dialect.insert(connection, alias_counters).values(scope_id=scope_id, kind=kind, next_alias=2)
    statement = statement.on_conflict_do_update(
        index_elements=[alias_counters.c.scope_id, alias_counters.c.kind],
        set_={"next_alias": alias_counters.c.next_alias + 1},
    ).returning(alias_counters.c.next_alias - 1)
    alias: int = connection.execute(statement).scalar_one()
    return alias
