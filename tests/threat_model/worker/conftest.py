"""An empty migrated database for each test, on each engine: workers see all of it."""

import itertools
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from deploy.embedded.postgres import EmbeddedPostgres
from services.shared import migrations, rfc3339
from services.shared.database import Database
from services.threat_model.audit.tables import outbox
from services.threat_model.schema import SCHEMA
from tests.threat_model.sequencer.conftest import MIGRATIONS, World

_NAMES = itertools.count()


@pytest.fixture
def postgresql(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """The reference engine."""
    yield from _migrated(postgres.url(f"worker_{next(_NAMES)}"))


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """The single-machine engine."""
    yield from _migrated(f"sqlite:///{tmp_path / 'tmi.db'}")


def _migrated(url: str) -> Iterator[Database]:
    database = Database(url, SCHEMA)
    migrations.upgrade(database, MIGRATIONS)
    yield database
    database.engine.dispose()


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each engine in turn."""
    engine: Database = request.getfixturevalue(request.param)
    return engine


@pytest.fixture
def world(database: Database) -> World:
    """A threat model with a diagram, alone in its database."""
    return World(database)


def add_events(database: Database, count: int, **values: Any) -> None:
    """Rows of the outbox, oldest first."""
    now = rfc3339.now()
    rows = [
        {
            "event_type": "threat.created",
            "root_id": str(uuid.uuid4()),
            "object_id": str(uuid.uuid4()),
            "payload": {"number": number},
            "created_at": now - timedelta(minutes=count - number),
            **values,
        }
        for number in range(count)
    ]
    with database.engine.begin() as connection:
        connection.execute(outbox.insert(), rows)


def unpublished(database: Database) -> int:
    """How many events wait."""
    query = select(func.count()).select_from(outbox).where(outbox.c.published_at.is_(None))
    return database.read(lambda connection: connection.execute(query).scalar_one())
