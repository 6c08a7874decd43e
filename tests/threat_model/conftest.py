"""The threat-model service on each database engine."""

from collections.abc import Iterator

import pytest

from services.shared import migrations
from services.shared.database import Database
from services.threat_model.__main__ import MIGRATIONS
from services.threat_model.schema import SCHEMA
from tests.threat_model.api import Api, Directory, serving


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def any_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A migrated database, on each engine in turn."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'tmi.db'}"
    else:
        url = request.getfixturevalue("database_url")
    yield from _migrated(url)


@pytest.fixture(scope="module")
def postgresql_database(database_url: str) -> Iterator[Database]:
    """A migrated database on the reference engine."""
    yield from _migrated(database_url)


def _migrated(url: str) -> Iterator[Database]:
    database = Database(url, SCHEMA)
    migrations.upgrade(database, MIGRATIONS)
    yield database
    database.engine.dispose()


@pytest.fixture(scope="module")
def _any_api(any_database: Database) -> Iterator[Api]:
    yield from _served(any_database)


@pytest.fixture
def any_api(_any_api: Api) -> Api:
    """The service on each engine in turn, called by somebody new."""
    return _fresh(_any_api)


@pytest.fixture(scope="module")
def _api(postgresql_database: Database) -> Iterator[Api]:
    yield from _served(postgresql_database)


@pytest.fixture
def api(_api: Api) -> Api:
    """The service on PostgreSQL, called by somebody new."""
    return _fresh(_api)


def _served(database: Database) -> Iterator[Api]:
    directory = Directory(database.engine.url.render_as_string(hide_password=False))
    with serving(database, directory) as channel:
        yield Api(channel, database, directory)
    directory.database.engine.dispose()


def _fresh(api: Api) -> Api:
    api.directory.reachable = True
    api.directory.asked.clear()
    return Api(api.channel, api.database, api.directory)
