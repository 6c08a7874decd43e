"""Databases of both kinds, and the running service."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.auth.providers.configuration import ProviderConfiguration
from services.shared.database import Database
from services.shared.settings import Settings
from tests.auth.client import ENCRYPTION_KEY, AuthClient, Clock, Service, migrated, serving

Start = Callable[..., Service]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def postgresql(database_url: str) -> Iterator[Database]:
    database = migrated(database_url)
    yield database
    database.engine.dispose()


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind: what stores data is tested on both."""
    if request.param == "postgresql":
        yield request.getfixturevalue("postgresql")
        return
    database = migrated(f"sqlite:///{tmp_path / 'tmi.db'}")
    yield database
    database.engine.dispose()


@pytest.fixture
def start(postgresql: Database, redis_url: str, clock: Clock) -> Iterator[Start]:
    """Starts the service with settings of the test's choice; several are replicas of each other."""
    with ExitStack() as stack:

        def run(*providers: ProviderConfiguration, **changes: Any) -> Service:
            key = {"secret_settings_encryption_key": ENCRYPTION_KEY} if changes.get("build_mode") else {}
            settings = Settings(**{"build_mode": "dev", "redis_url": redis_url, **key, **changes})
            running: AbstractContextManager[Service] = serving(settings, postgresql, clock, providers)
            return stack.enter_context(running)

        yield run


@pytest.fixture
def service(start: Start) -> Service:
    """The service with its development defaults."""
    return start()


@pytest.fixture
def client(service: Service) -> AuthClient:
    return service.client
