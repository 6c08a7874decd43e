"""Publishing the events of the outbox, in batches and in the order of their ids.

A batch is one transaction: its rows are locked, handed to every publisher, and marked. Workers pass over the rows
that another one has locked (SQLite lets in one writer at a time), and the rows of one that dies are free again. So
what a publisher writes through the connection it is given is written once for each event.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from services.threat_model.audit.tables import outbox

BATCH = 100

_c = outbox.c
_TAKE = (
    select(_c.id, _c.event_type, _c.root_id, _c.object_id, _c.payload, _c.created_at)
    .where(_c.published_at.is_(None))
    .order_by(_c.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_MARK = outbox.update().where(_c.id == bindparam("event_id")).values(published_at=bindparam("now"))
_BACKLOG = select(func.count().label("rows"), func.min(_c.created_at).label("oldest")).where(_c.published_at.is_(None))


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the outbox. Ids ascend in the order of writing."""

    id: int
    event_type: str
    root_id: str
    object_id: str
    payload: Any
    created_at: datetime


Publisher = Callable[[Connection, Sequence[Event]], None]
"""Takes events over, within the transaction that marks them published: what it does must be undone by a rollback,
such as writing down a delivery that is made later. What it raises leaves the batch unpublished."""


def publish(connection: Connection, publishers: Sequence[Publisher], now: datetime) -> list[Event]:
    """Publishes the oldest events that nobody else holds, at most BATCH, and returns them. Runs in a transaction."""
    events = [Event(*row) for row in connection.execute(_TAKE)]
    if events:
        for hand_over in publishers:
            hand_over(connection, events)
        connection.execute(_MARK, [{"event_id": event.id, "now": now} for event in events])
    return events


def backlog(connection: Connection) -> tuple[int, datetime | None]:
    """How many events wait, and since when the oldest of them does."""
    row = connection.execute(_BACKLOG).one()
    return row.rows, row.oldest
