from datetime import datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError

from services.shared import rfc3339
from services.shared.database import Database
from services.threat_model.worker.schedules import Schedule, run_if_due

NOW = rfc3339.now()
HOUR = timedelta(hours=1)


class Work:
    """Counts its runs; can be made to stop early or to fail."""

    def __init__(self) -> None:
        self.runs: list[datetime] = []
        self.done = True

    def __call__(self, now: datetime) -> bool:
        self.runs.append(now)
        return self.done


def test_work_is_done_once_in_each_interval_whoever_asks(database: Database) -> None:
    work = Work()
    schedule = Schedule("prune", HOUR, work)
    later = NOW + HOUR - timedelta(seconds=1)
    assert [run_if_due(database, schedule, now) for now in (NOW, NOW, later)] == [NOW, NOW, NOW]
    assert work.runs == [NOW]
    assert run_if_due(database, schedule, NOW + HOUR) == NOW + HOUR
    assert work.runs == [NOW, NOW + HOUR]


def test_schedules_do_not_know_each_other(database: Database) -> None:
    first, second = Work(), Work()
    run_if_due(database, Schedule("first", HOUR, first), NOW)
    run_if_due(database, Schedule("second", HOUR, second), NOW)
    assert (first.runs, second.runs) == ([NOW], [NOW])


def test_work_that_was_not_finished_is_due_at_once(database: Database) -> None:
    work = Work()
    schedule = Schedule("prune", HOUR, work)
    work.done = False
    assert run_if_due(database, schedule, NOW) is None
    work.done = True
    assert run_if_due(database, schedule, NOW) == NOW
    assert len(work.runs) == 2


def test_work_that_failed_is_due_at_once_and_its_lock_is_free(database: Database) -> None:
    def fail(now: datetime) -> bool:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        run_if_due(database, Schedule("prune", HOUR, fail), NOW)
    assert run_if_due(database, Schedule("prune", HOUR, Work()), NOW) == NOW


def test_one_worker_does_it_while_the_others_go_on(postgresql: Database) -> None:
    work = Work()
    with postgresql.lock("prune") as locked:
        assert locked
        assert run_if_due(postgresql, Schedule("prune", HOUR, work), NOW) is None
        assert run_if_due(postgresql, Schedule("other", HOUR, Work()), NOW) == NOW
    assert work.runs == []
    assert run_if_due(postgresql, Schedule("prune", HOUR, work), NOW) == NOW


def test_a_worker_that_waited_for_nothing_does_not_repeat_what_was_just_done(postgresql: Database) -> None:
    """The other worker finishes between this one's look at the schedule and its lock."""
    mine, theirs = Work(), Work()
    lock = postgresql.lock

    def overtaken(name: str):  # type: ignore[no-untyped-def]
        postgresql.lock = lock  # type: ignore[method-assign]
        run_if_due(postgresql, Schedule("prune", HOUR, theirs), NOW)
        return lock(name)

    postgresql.lock = overtaken  # type: ignore[method-assign]
    run_if_due(postgresql, Schedule("prune", HOUR, mine), NOW)
    assert (mine.runs, theirs.runs) == ([], [NOW])


def test_locks_have_names_and_go_with_the_connection_that_holds_them(postgresql: Database) -> None:
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON oid = database "
        "WHERE locktype = 'advisory' AND datname = current_database()"
    )
    holder = postgresql.lock("prune")
    assert holder.__enter__()
    with postgresql.lock("prune") as second, postgresql.lock("other") as third:
        assert (second, third) == (False, True)
    with postgresql.engine.begin() as connection:
        assert connection.exec_driver_sql(terminate).rowcount == 1
    with pytest.raises(OperationalError):
        holder.__exit__(None, None, None)
    with postgresql.lock("prune") as free:
        assert free
