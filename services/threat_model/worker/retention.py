"""What is deleted when its time is over, in transactions of bounded size.

Each kind is a function that deletes one batch of what is older than a moment and returns the number of rows; the
caller repeats it while the batches are full.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, MetaData, Table, bindparam, exists, select, tuple_

from services.shared.database import Database
from services.shared.sql_dialect import UtcDateTime, UuidText
from services.threat_model.audit.tables import audit_entries, outbox
from services.threat_model.cells.tables import diagrams
from services.threat_model.resources.tables import alias_counters
from services.threat_model.sequencer.tables import diagram_operations

BATCH = 1000

_before = bindparam("before", type_=UtcDateTime())

_log = diagram_operations.c
_of_live_session = exists().where(
    diagrams.c.id == _log.diagram_id,
    diagrams.c.session_id.is_not(None),
    diagrams.c.session_start_vector < _log.update_vector,
)
_OLD_OPERATIONS = (
    select(_log.diagram_id, _log.update_vector)
    .where(_log.created_at < _before, ~_of_live_session)
    .order_by(_log.created_at, _log.update_vector)
    .limit(BATCH)
)
_DELETE_OPERATIONS = diagram_operations.delete().where(tuple_(_log.diagram_id, _log.update_vector).in_(_OLD_OPERATIONS))

_event = outbox.c
_DELETE_EVENTS = outbox.delete().where(
    _event.id.in_(select(_event.id).where(_event.published_at < _before).order_by(_event.id).limit(BATCH))
)

_entry = audit_entries.c
# That a root such as a threat model existed, and who deleted it, stays known.
_is_end_of_a_root = (_entry.object_id == _entry.root_id) & (_entry.change_type == "deleted")
_DELETE_ENTRIES = audit_entries.delete().where(
    _entry.id.in_(
        select(_entry.id)
        .where(_entry.created_at < _before, ~_is_end_of_a_root)
        .order_by(_entry.created_at, _entry.id)
        .limit(BATCH)
    )
)
_FORGET_ALIASES = alias_counters.delete().where(
    alias_counters.c.scope_id == bindparam("row_id", type_=UuidText),
)

Prune = Callable[[Database, datetime], int]
"""Deletes at most a batch of what is older than a moment; 0 when nothing is left."""


def prune_operations(database: Database, before: datetime) -> int:
    """Rows of the operation log, with the history they hold; never those of a session that is live."""
    return database.write(lambda connection: connection.execute(_DELETE_OPERATIONS, {"before": before}).rowcount)


def prune_events(database: Database, before: datetime) -> int:
    """Published rows of the outbox. before: the time of publishing."""
    return database.write(lambda connection: connection.execute(_DELETE_EVENTS, {"before": before}).rowcount)


def prune_audit_entries(database: Database, before: datetime) -> int:
    """Audit entries, except those that say that a root was deleted."""
    return database.write(lambda connection: connection.execute(_DELETE_ENTRIES, {"before": before}).rowcount)


def tables_with_tombstones(metadata: MetaData) -> Sequence[Table]:
    """Every table whose rows are deleted softly, what refers to another one before it."""
    return [table for table in reversed(metadata.sorted_tables) if "deleted_at" in table.c]


def prune_tombstones(metadata: MetaData) -> Prune:
    """Rows that were deleted softly, with everything that hangs on them by a foreign key."""
    tables = tables_with_tombstones(metadata)

    def prune(database: Database, before: datetime) -> int:
        for table in tables:
            if rows := _prune_table(database, table, before):
                return rows
        return 0

    return prune


def _prune_table(database: Database, table: Table, before: datetime) -> int:
    is_old = (table.c.id == bindparam("row_id", type_=UuidText)) & (table.c.deleted_at < _before)
    delete = table.delete().where(is_old)
    find = select(table.c.id).where(table.c.deleted_at < _before).order_by(table.c.deleted_at).limit(BATCH)

    def delete_one(row_id: str, connection: Connection) -> int:
        deleted = connection.execute(delete, {"row_id": row_id, "before": before}).rowcount  # 0: restored meanwhile
        if deleted:
            connection.execute(_FORGET_ALIASES, {"row_id": row_id})
        return deleted

    ids = database.read(lambda connection: connection.scalars(find, {"before": before}).all())
    # One transaction each: on one diagram hang up to 10,000 cells and all of its log.
    return sum(database.write(partial(delete_one, row_id)) for row_id in ids)
