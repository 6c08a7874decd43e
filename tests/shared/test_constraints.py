"""A violated constraint is the client's error, named alike by both databases."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.exc import DBAPIError

from services.auth import schema as auth
from services.auth import service as _auth_tables  # noqa: F401
from services.shared.constraints import Constraints
from services.shared.database import Database, service_metadata, translate_database_error
from services.shared.errors import ApiError
from services.threat_model import schema as threat_model
from services.threat_model import service as _threat_model_tables  # noqa: F401

metadata = service_metadata("example")
shelves = Table("shelves", metadata, Column("id", Integer, primary_key=True))
books = Table(
    "books",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("shelf_id", Integer, ForeignKey(shelves.c.id)),
    Column("place", Integer),
    Column("title", String(10), nullable=False),
    Column("isbn", String(20)),
    Column("volume", SmallInteger),
    UniqueConstraint("shelf_id", "place"),
    CheckConstraint("volume > 0", name="ck_books_volume"),
)
Index(
    "uq_books_isbn", books.c.isbn, unique=True, postgresql_where=books.c.volume == 1, sqlite_where=books.c.volume == 1
)
Index("uq_books_lower_title", func.lower(books.c.title), unique=True)

SAID = {
    "pk_books": "There is such a book.",
    "uq_books_shelf_id": "The place is taken.",
    "uq_books_isbn": "The number is taken.",
    "uq_books_lower_title": "The title is taken.",
    "ck_books_volume": "The volume is not positive.",
    "books.title": "A book has a title.",
}
FIRST: dict[str, Any] = {"id": 1, "shelf_id": 1, "place": 1, "title": "first", "isbn": "1", "volume": 1}
OTHER: dict[str, Any] = {"id": 2, "shelf_id": 1, "place": 2, "title": "other", "isbn": "2", "volume": 1}


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Shelves and books, on each engine in turn."""
    file: Path = tmp_path_factory.mktemp("constraints") / "x.db"
    url = f"sqlite:///{file}" if request.param == "sqlite" else request.getfixturevalue("database_url")
    database = Database(url, "example")
    if request.param == "postgresql":
        database.write(lambda connection: connection.execute(text("CREATE SCHEMA example")))
    metadata.create_all(database.engine)
    database.write(lambda connection: connection.execute(shelves.insert(), {"id": 1}))
    database.write(lambda connection: connection.execute(books.insert(), FIRST))
    yield database
    database.engine.dispose()


def refusal(
    database: Database, row: dict[str, Any], messages: dict[str, str], missing: dict[str, str] | None = None
) -> ApiError:
    with pytest.raises(DBAPIError) as caught:
        database.write(lambda connection: connection.execute(books.insert(), row))
    error = translate_database_error(caught.value, Constraints(metadata, messages, missing or {}))
    assert error is not None
    return error


VIOLATIONS: dict[str, dict[str, Any]] = {
    "pk_books": {"id": 1},
    "uq_books_shelf_id": {"place": 1},
    "uq_books_isbn": {"isbn": "1"},
    "uq_books_lower_title": {"title": "FIRST"},
    "ck_books_volume": {"volume": 0},
    "books.title": {"title": None},
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_constraint_is_named_and_says_what_was_declared(
    database: Database, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = refusal(database, OTHER | VIOLATIONS[name], SAID)
    is_unique = name.startswith(("pk", "uq"))
    assert (error.status, error.code) == ((409, "conflict") if is_unique else (400, "invalid_input"))
    assert error.message == SAID[name]
    assert caplog.records == []


@pytest.mark.parametrize("name", VIOLATIONS)
def test_an_unknown_constraint_is_answered_by_its_kind_and_logged_by_its_name(
    database: Database, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = refusal(database, OTHER | VIOLATIONS[name], {})
    is_unique = name.startswith(("pk", "uq"))
    assert (error.status, error.code) == ((409, "conflict") if is_unique else (400, "invalid_input"))
    assert "books" not in error.message
    assert "constraint" not in error.message
    (record,) = caplog.records
    assert (record.levelno, record.__dict__["constraint"]) == (logging.ERROR, name)


def test_a_reference_to_nothing_is_400(database: Database) -> None:
    error = refusal(database, OTHER | {"shelf_id": 99}, {}, {"shelves": "There is no such shelf."})
    assert (error.status, error.code) == (400, "invalid_input")
    named = database.engine.dialect.name == "postgresql"  # SQLite does not say which reference
    assert error.message == ("There is no such shelf." if named else "Something that this refers to does not exist.")


@pytest.mark.parametrize("values", [{"title": "x" * 11}, {"volume": 2**15}, {"place": 2**40}, {"title": "a\0b"}])
def test_what_a_type_cannot_hold_is_400(database: Database, values: dict[str, Any]) -> None:
    if database.engine.dialect.name == "sqlite":  # its types hold everything
        database.write(lambda connection: connection.execute(books.insert(), OTHER | values))
        database.write(lambda connection: connection.execute(books.delete().where(books.c.id == 2)))
        return
    error = refusal(database, OTHER | values, SAID)
    assert (error.status, error.code) == (400, "invalid_input")


@pytest.mark.parametrize("schema", [auth, threat_model])
def test_every_foreign_key_has_a_message(schema: Any) -> None:
    keys = [key for table in schema.metadata.tables.values() for key in table.foreign_key_constraints]
    assert keys
    assert all(schema.CONSTRAINTS.message(str(key.name)) for key in keys)
