"""A disk without room: what a write is answered, and what is known before the next one."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, MetaData, event, text
from sqlalchemy.exc import DBAPIError

from deploy.embedded.postgres import EmbeddedPostgres
from services.shared.constraints import Constraints
from services.shared.database import Database, translate_database_error
from tests.tiny_disk import TinyDisk, mounted

_RAISES_DISK_FULL = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON notes EXECUTE FUNCTION refuse();
"""
_NOTES = [{"content": os.urandom(3000).hex()} for _ in range(200)]


def create(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE notes (content text)"))


def store(connection: Connection) -> None:
    """More than a megabyte, which no page that is there already has room for."""
    connection.execute(text("INSERT INTO notes VALUES (:content)"), _NOTES)


def stored(connection: Connection) -> object:
    return connection.execute(text("SELECT count(*) FROM notes")).scalar()


def assert_refused_for_want_of_room(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught:
        database.write(store)
    answer = translate_database_error(caught.value, Constraints(MetaData(), {}, {}))
    assert answer is not None
    assert (answer.status, answer.code) == (503, "service_unavailable")
    assert answer.headers["Retry-After"] == "30"
    assert "disk of the database is full" in answer.message


@pytest.fixture
def tiny_disk() -> Iterator[TinyDisk]:
    with mounted() as disk:
        yield disk


@pytest.fixture(params=["postgresql", "sqlite"])
def database_on_it(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, tiny_disk: TinyDisk
) -> Iterator[Database]:
    """A database with everything in it on the tiny disk."""
    with ExitStack() as resources:
        if request.param == "postgresql":
            url = resources.enter_context(tiny_disk.database(postgres))
        else:
            url = f"sqlite:///{tiny_disk.folder / 'tmi.db'}"
        database = Database(url, "example")
        resources.callback(database.engine.dispose)
        database.write(create)
        yield database


def test_a_full_disk_is_said_so_until_there_is_room_again(database_on_it: Database, tiny_disk: TinyDisk) -> None:
    database = database_on_it
    database.write(store)
    assert database.has_room()
    tiny_disk.fill()
    assert not database.has_room()
    assert_refused_for_want_of_room(database)
    assert database.read(stored) == len(_NOTES)
    tiny_disk.free()
    assert database.has_room()
    database.write(store)
    assert database.read(stored) == 2 * len(_NOTES)


def test_the_error_of_sqlite_is_known_without_a_disk(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tmi.db'}", "example")
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 4"))
    database.write(create)
    assert_refused_for_want_of_room(database)
    database.engine.dispose()


def test_the_error_of_postgresql_is_known_without_a_disk(database_url: str) -> None:
    database = Database(database_url, "example")
    database.write(create)
    database.write(lambda connection: connection.exec_driver_sql(_RAISES_DISK_FULL))
    assert_refused_for_want_of_room(database)
    database.engine.dispose()


def test_asking_for_room_leaves_the_connection_as_it_was(database_url: str) -> None:
    database = Database(database_url, "example", pool_size=1)

    def working_memory(connection: Connection) -> object:
        return connection.execute(text("SHOW work_mem")).scalar()

    before = database.read(working_memory)
    assert database.has_room()
    assert database.read(working_memory) == before
    database.engine.dispose()
