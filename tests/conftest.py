"""Real stores for every test: one PostgreSQL and one Valkey a worker, a fresh database where asked."""

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import hypothesis
import pytest
import redis

from deploy.embedded.postgres import EmbeddedPostgres
from deploy.embedded.valkey import EmbeddedValkey
from services.shared.settings import Settings

_DATABASES = itertools.count()

# How fast a machine is says nothing about the code: properties have no time limits.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Holds one event loop for all tests of this worker.

    grpc.aio reports late events of a channel to the loop it was made in, which must still exist then.
    """
    yield
    for _ in range(5):  # connections that were closed last are still to be cleaned up by the loop
        await anyio.lowlevel.checkpoint()


@pytest.fixture(scope="session")
def worker() -> str:
    """Name of this pytest-xdist worker, `main` without xdist."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def data_folder() -> Iterator[Path]:
    """A folder for the data of servers, removed at the end.

    Not one of pytest's: as root PostgreSQL runs as another account, and pytest takes the permission
    to pass through its folders away whenever another run of it starts.
    """
    with tempfile.TemporaryDirectory(prefix="tmi-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(data_folder: Path) -> Iterator[EmbeddedPostgres]:
    """The embedded PostgreSQL server of this worker."""
    server = EmbeddedPostgres(data_folder / "postgres", durable=False)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """The embedded Valkey server of this worker."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def database_url(postgres: EmbeddedPostgres) -> str:
    """URL of an empty database, one for each test module."""
    return postgres.url(f"test_{next(_DATABASES)}")


@pytest.fixture
def redis_url(valkey: EmbeddedValkey) -> str:
    """URL of the worker's Valkey, emptied."""
    client = redis.Redis.from_url(valkey.url)
    client.flushall()
    client.close()
    return valkey.url


@pytest.fixture
def project() -> Path:
    """The top folder of the project."""
    return Path(__file__).parent.parent


@pytest.fixture
def collaboration_settings(redis_url: str) -> Settings:
    """Settings of a collaboration replica and of the sockets in front of it."""
    return Settings(build_mode="test", redis_url=redis_url, host_grace_seconds=0.5)
