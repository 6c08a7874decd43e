"""Recurring work that one worker does for all: under a lock, and written down when it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select

from services.shared import sql_dialect
from services.shared.database import Database
from services.threat_model.worker.tables import schedules

_FINISHED_AT = select(schedules.c.finished_at).where(schedules.c.name == bindparam("of_name"))


@dataclass(frozen=True)
class Schedule:
    """Work that is to be done once in every interval, however many workers there are."""

    name: str
    every: timedelta
    work: Callable[[datetime], bool]
    """Called with the present time; False when it had to stop before it was done."""


def run_if_due(database: Database, schedule: Schedule, now: datetime) -> datetime | None:
    """Does the work unless it was done within the interval or another worker is doing it.

    Says when it was done last; None for never.
    """
    last = database.read(lambda connection: _finished_at(connection, schedule.name))
    if last is not None and now < last + schedule.every:
        return last
    with database.lock(schedule.name) as locked:
        if not locked or last != database.read(lambda connection: _finished_at(connection, schedule.name)):
            return last
        if not schedule.work(now):
            return last
        database.write(lambda connection: _finish(connection, schedule.name, now))
    return now


def _finished_at(connection: Connection, name: str) -> datetime | None:
    return connection.execute(_FINISHED_AT, {"of_name": name}).scalar_one_or_none()


def _finish(connection: Connection, name: str, now: datetime) -> None:
    statement = sql_dialect.insert(connection, schedules).values(name=name, finished_at=now)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"finished_at": statement.excluded.finished_at})
    )
