"""Transactions on real engines: what is retried, what is told to the client."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from services.shared.database import Database, normalise, translate_database_error


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
    with pytest.raises(ValueError, match="unsupported database scheme"):
        normalise("mongodb://h/db")


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
    assert len(attempts) == 3


def test_a_programming_error_is_not_retried_nor_excused(database: Database) -> None:
    attempts: list[int] = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        connection.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(ProgrammingError) as caught:
        database.write(work)
    assert len(attempts) == 1
    assert translate_database_error(caught.value) is None


def test_an_unreachable_database_is_503_with_retry_after() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", "example")
    with pytest.raises(OperationalError) as caught:
        database.read(lambda connection: scalar(connection, "SELECT 1"))
    error = translate_database_error(caught.value)
    assert error is not None
    assert error.status == 503
    assert "Retry-After" in error.headers


def test_an_error_of_the_program_is_not_the_databases() -> None:
    assert translate_database_error(KeyError("x")) is None


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
        assert translate_database_error(caught.value) is not None, "503, and not 500"
    assert database.read(lambda c: scalar(c, "SELECT number FROM shared")) == 11
