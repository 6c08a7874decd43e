"""Transactions on real engines: what is retried, what is told to the client."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from services.shared import deadline
from services.shared.constraints import Constraints
from services.shared.database import Database, normalise, translate_database_error
from services.shared.errors import ApiError
from services.shared.settings import Settings
from services.shared.startup import CannotStart

NONE = Constraints(MetaData(), {}, {})


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, "example", pool_size=2)
    yield database
    database.engine.dispose()


def scalar(connection: Connection, statement: str) -> object:
    return connection.execute(text(statement)).scalar()


def test_urls_of_the_guide_name_their_engine() -> None:
    assert normalise("postgres://u@h/db").drivername == "postgresql+psycopg"
    assert normalise("postgresql://u@h/db").drivername == "postgresql+psycopg"
    assert normalise("sqlite:///x.db").drivername == "sqlite+pysqlite"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@h/db",
        "mysql+pymysql://u:secret@h/db",
        "mariadb://u:secret@h/db",
        "sqlserver://u:secret@h:1433/db",
        "mssql+pyodbc://u:secret@h/db",
        "oracle://u:secret@h:1521/db",
        "oracle+oracledb://u:secret@h/db",
        "mongodb://u:secret@h/db",
    ],
)
def test_other_engines_are_refused_with_what_is_supported(url: str) -> None:
    with pytest.raises(CannotStart) as caught:
        Database.from_settings(Settings(database_url=url), "example")
    said = str(caught.value)
    assert said.startswith("TMI_DATABASE_URL cannot be used: unsupported database scheme ")
    assert "PostgreSQL (postgresql://host/name) for production" in said
    assert "SQLite (sqlite:///path/to/file) for one machine" in said
    assert "secret" not in said


def test_a_connection_that_died_in_the_pool_is_replaced_without_an_error(database: Database) -> None:
    pid = database.read(lambda connection: scalar(connection, "SELECT pg_backend_pid()"))
    other = Database(str(database.engine.url.render_as_string(hide_password=False)), "example")
    other.read(lambda connection: scalar(connection, f"SELECT pg_terminate_backend({pid}, 5000)"))
    assert database.read(lambda connection: scalar(connection, "SELECT 1")) == 1
    other.engine.dispose()


def test_a_deadlock_is_tried_again(database: Database) -> None:
    def prepare(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE accounts (id int PRIMARY KEY, balance int)"))
        connection.execute(text("INSERT INTO accounts VALUES (1, 0), (2, 0)"))

    database.write(prepare)
    meet = threading.Barrier(2)
    attempts: list[int] = []

    def transfer(first: int, second: int) -> None:
        once = [True]

        def work(connection: Connection) -> None:
            attempts.append(first)
            connection.execute(text("UPDATE accounts SET balance = balance + 1 WHERE id = :id"), {"id": first})
            if once.pop() if once else False:
                meet.wait(10)
            connection.execute(text("UPDATE accounts SET balance = balance + 1 WHERE id = :id"), {"id": second})

        database.write(work)

    threads = [threading.Thread(target=transfer, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.read(lambda connection: scalar(connection, "SELECT sum(balance) FROM accounts")) == 4
    assert len(attempts) >= 3


def raise_sqlstate(connection: Connection, sqlstate: str) -> None:
    connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"))


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
def test_what_deadlocks_again_and_again_is_said_so(database: Database, sqlstate: str) -> None:
    attempts: list[int] = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        raise_sqlstate(connection, sqlstate)

    with pytest.raises(DBAPIError) as caught:
        database.write(work)
    assert len(attempts) == 3
    error = translate_database_error(caught.value, NONE)
    assert error is not None
    assert (error.status, error.headers["Retry-After"]) == (503, "1")
    assert "at once" in error.message


def test_every_connection_has_its_limits(database_url: str) -> None:
    database = Database(database_url, "example", lock_timeout_seconds=0.25, statement_timeout_seconds=12)
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_isolation")
    shown = database.write(lambda connection: [scalar(connection, f"SHOW {name}") for name in names])
    assert shown == ["250ms", "12s", "5s", "read committed"]
    database.engine.dispose()


def test_a_statement_that_takes_too_long_is_503(database_url: str) -> None:
    database = Database(database_url, "example", statement_timeout_seconds=0.1)
    with pytest.raises(OperationalError) as caught:
        database.read(lambda connection: scalar(connection, "SELECT pg_sleep(60)"))
    error = translate_database_error(caught.value, NONE)
    assert error is not None
    assert (error.status, error.message) == (503, "The database took too long for this request.")
    database.engine.dispose()


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_waiting_for_somebody_else_ends(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}" if kind == "sqlite" else request.getfixturevalue("database_url")
    database = Database(url, "example", lock_timeout_seconds=0.1)
    database.write(lambda connection: connection.execute(text("CREATE TABLE one (n int)")))
    database.write(lambda connection: connection.execute(text("INSERT INTO one VALUES (1)")))
    change = text("UPDATE one SET n = n + 1")

    def change_twice(connection: Connection) -> None:
        connection.execute(change)
        database.write(lambda other: other.execute(change))

    with pytest.raises(OperationalError) as caught:
        database.write(change_twice)
    error = translate_database_error(caught.value, NONE)
    assert error is not None
    assert (error.status, error.code, error.headers["Retry-After"]) == (503, "service_unavailable", "1")
    assert "somebody else" in error.message
    assert database.read(lambda connection: scalar(connection, "SELECT n FROM one")) == 1
    database.engine.dispose()


class Caller:
    """A call whose caller may hang up, or has so many seconds left."""

    def __init__(self, *, remaining: float | None = None) -> None:
        self.waits = True
        self.remaining = remaining

    def is_active(self) -> bool:
        return self.waits

    def time_remaining(self) -> float | None:
        return self.remaining


def in_a_call(call: Caller, work: Callable[[], object]) -> object:
    """What a thread does that works for the call."""

    def run() -> object:
        deadline.follow(call)
        return work()

    return contextvars.copy_context().run(run)


@pytest.mark.parametrize("call", [Caller(), Caller(remaining=60.0)])
def test_a_call_with_time_is_served(database: Database, call: Caller) -> None:
    assert in_a_call(call, lambda: database.write(lambda connection: scalar(connection, "SELECT 1"))) == 1


def test_a_call_that_nobody_waits_for_begins_nothing(database: Database) -> None:
    begun: list[Connection] = []
    for call in (Caller(remaining=0.0), Caller(remaining=-1.0)):
        for run in (database.read, database.write):
            with pytest.raises(ApiError, match="time for this request is over"):
                in_a_call(call, partial(run, begun.append))
    assert begun == []


@pytest.mark.parametrize("statements", [1, 2])
def test_a_call_that_is_given_up_halfway_changes_nothing(database_url: str, statements: int) -> None:
    database = Database(database_url, "example")
    table = f"halfway_{statements}"
    database.write(lambda connection: connection.execute(text(f"CREATE TABLE {table} (n int)")))
    call = Caller()

    def work(connection: Connection) -> None:
        for _ in range(statements):
            connection.execute(text(f"INSERT INTO {table} VALUES (1)"))
            call.waits = False

    with pytest.raises(ApiError, match="time for this request is over"):
        in_a_call(call, lambda: database.write(work))
    assert database.read(lambda connection: scalar(connection, f"SELECT count(*) FROM {table}")) == 0
    database.engine.dispose()


def test_a_deadlock_is_not_tried_again_for_nobody(database: Database) -> None:
    call = Caller()
    attempts: list[int] = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        call.waits = False
        raise DBAPIError("UPDATE", {}, psycopg.errors.DeadlockDetected())

    with pytest.raises(ApiError, match="time for this request is over"):
        in_a_call(call, lambda: database.write(work))
    assert attempts == [1]


def test_writers_who_begin_at_once_after_a_pause_are_all_served(database_url: str) -> None:
    database = Database(database_url, "example", writers=2)
    for _ in range(20):
        database._writers._moved_at -= 3600
        barrier = threading.Barrier(6)

        def begin(barrier: threading.Barrier = barrier) -> object:
            barrier.wait(10)
            return database.write(lambda connection: scalar(connection, "SELECT 1"))

        with ThreadPoolExecutor(6) as pool:
            works = [pool.submit(begin) for _ in range(6)]
            assert [work.result(60) for work in works] == [1] * 6
    database.engine.dispose()


def test_a_writer_too_many_is_refused_while_none_gets_on(database_url: str) -> None:
    """And waits for its turn as long as others get on."""
    database = Database(database_url, "example", writers=1)
    inside, leave = threading.Event(), threading.Event()

    def stay(_: Connection) -> None:
        inside.set()
        leave.wait(60)

    with ThreadPoolExecutor(8) as pool:
        stuck = pool.submit(database.write, stay)
        inside.wait(60)
        for _ in range(2):
            with pytest.raises(ApiError) as caught:
                database.write(lambda connection: scalar(connection, "SELECT 1"))
            assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
        assert database.read(lambda connection: scalar(connection, "SELECT 1")) == 1
        leave.set()
        stuck.result(60)
        works = [pool.submit(database.write, lambda connection: scalar(connection, "SELECT 1")) for _ in range(20)]
        assert [work.result(60) for work in works] == [1] * 20
    database.engine.dispose()


def test_a_programming_error_is_not_retried_nor_excused(database: Database) -> None:
    attempts: list[int] = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        connection.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(ProgrammingError) as caught:
        database.write(work)
    assert len(attempts) == 1
    assert translate_database_error(caught.value, NONE) is None


def test_an_unreachable_database_is_503_with_retry_after() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", "example")
    with pytest.raises(OperationalError) as caught:
        database.read(lambda connection: scalar(connection, "SELECT 1"))
    error = translate_database_error(caught.value, NONE)
    assert error is not None
    assert error.status == 503
    assert "Retry-After" in error.headers


def test_an_error_of_the_program_is_not_the_databases() -> None:
    assert translate_database_error(KeyError("x"), NONE) is None


def test_sqlite_reads_while_another_connection_writes(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}", "example")
    database.write(lambda connection: connection.execute(text("CREATE TABLE t (n int)")))

    def read_inside(connection: Connection) -> object:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        return database.read(lambda other: scalar(other, "SELECT count(*) FROM t"))

    assert database.write(read_inside) == 0
    assert database.read(lambda connection: scalar(connection, "SELECT count(*) FROM t")) == 1
    database.engine.dispose()


def test_sqlite_commits_and_rolls_back(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}", "example")
    database.write(lambda connection: connection.execute(text("CREATE TABLE t (n int)")))

    def fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        raise KeyError

    with pytest.raises(KeyError):
        database.write(fail)
    database.write(lambda connection: connection.execute(text("INSERT INTO t VALUES (2)")))
    assert database.read(lambda connection: connection.execute(text("SELECT n FROM t")).scalars().all()) == [2]
    database.engine.dispose()


def test_a_process_that_is_frozen_within_a_transaction_loses_its_locks(database: Database) -> None:
    """PostgreSQL ends the transaction; the other replicas wait for its rows no longer than that."""
    assert database.read(lambda c: scalar(c, "SHOW idle_in_transaction_session_timeout")) == "5s"
    database.write(lambda c: c.execute(text("CREATE TABLE shared (number integer)")))
    database.write(lambda c: c.execute(text("INSERT INTO shared VALUES (1)")))
    with database.engine.connect() as frozen:
        frozen.execute(text("SET idle_in_transaction_session_timeout = '200ms'"))
        frozen.commit()
        frozen.execute(text("UPDATE shared SET number = 2"))
        database.write(lambda c: c.execute(text("UPDATE shared SET number = number + 10")))
        with pytest.raises(DBAPIError) as caught:
            frozen.execute(text("SELECT 1"))
        assert translate_database_error(caught.value, NONE) is not None, "503, and not 500"
    assert database.read(lambda c: scalar(c, "SELECT number FROM shared")) == 11
