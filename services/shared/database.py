"""The SQL database of a service: engine, transactions, and what its failures mean to a client."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.shared.errors import ApiError, unavailable
from services.shared.settings import Settings
from services.shared.startup import CannotStart

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_RETRYABLE_SQLSTATES = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_ATTEMPTS = 3
# A process that is frozen within a transaction must not keep its locks from the other replicas for long.
_OPTIONS = ("timezone=UTC", "statement_timeout=30000", "idle_in_transaction_session_timeout=5000")


def normalise(url: str) -> URL:
    """SQLAlchemy URL for the schemes of the configuration guide. Raises ValueError for others."""
    parsed = make_url(url)
    name = parsed.get_backend_name()
    if name in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if name in ("sqlite", "sqlite3"):
        return parsed.set(drivername="sqlite+pysqlite")
    raise ValueError(f"unsupported database scheme {name!r}")


def service_metadata(schema: str) -> MetaData:
    """Tables of a service's schema. Constraints have names, so that migrations can change them."""
    return MetaData(
        schema=schema,
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        },
    )


class Database:
    """Connections of one service. `schema` is its own on PostgreSQL; SQLite has one for all."""

    def __init__(self, url: str, schema: str, *, pool_size: int = 20) -> None:
        parsed = normalise(url)
        self.schema = schema
        if parsed.get_backend_name() == "sqlite":
            self.engine = _sqlite_engine(parsed, schema)
        else:
            self.engine = create_engine(
                parsed,
                pool_size=pool_size,
                max_overflow=0,
                pool_use_lifo=True,  # keeps few connections busy, whose prepared statements are warm
                pool_timeout=5,
                pool_recycle=240,
                connect_args={"connect_timeout": 5, "options": " ".join(f"-c {option}" for option in _OPTIONS)},
            )
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @classmethod
    def from_settings(cls, settings: Settings, schema: str) -> "Database":
        """The database that TMI_DATABASE_URL names. Raises CannotStart when it names none."""
        if not settings.database_url:
            raise CannotStart("TMI_DATABASE_URL is not set: name a database, such as postgresql://localhost/tmi.")
        try:
            return cls(settings.database_url, schema, pool_size=settings.db_max_open_conns)
        except (ValueError, ArgumentError) as error:
            raise CannotStart(f"TMI_DATABASE_URL cannot be used: {error}.") from error

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Runs single SELECTs without a transaction around them; each sees its own snapshot."""
        return self._attempt(self._autocommit.connect, work)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Runs `work` in one transaction. It may run again after a serialization failure."""
        return self._attempt(self.engine.begin, work)

    def _attempt(self, open_connection: Callable[[], Any], work: Callable[[Connection], Result]) -> Result:
        for attempt in range(1, _ATTEMPTS + 1):
            finished = False
            try:
                with open_connection() as connection:
                    result = work(connection)
                    finished = True
                return result
            except DBAPIError as error:
                # A connection lost before COMMIT was sent changed nothing, so the work may run
                # again; one lost during COMMIT may have succeeded and must not.
                lost_early = error.connection_invalidated and not finished
                if attempt == _ATTEMPTS or not (lost_early or _sqlstate(error) in _RETRYABLE_SQLSTATES):
                    raise
                time.sleep(0.01 * attempt)
        raise AssertionError("the loop returns or raises")

    def wait_until_reachable(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Returns once the database answers; logs what it waits for, with backoff up to 5 s."""
        delay = 0.1
        while not should_stop():
            try:
                self.read(lambda connection: connection.execute(text("SELECT 1")))
                return
            except (DBAPIError, PoolTimeout) as error:
                logger.warning("waiting for the database", extra={"error": type(error).__name__})
                time.sleep(delay)
                delay = min(delay * 2, 5.0)


def translate_database_error(error: Exception) -> ApiError | None:
    """503 when the database cannot serve; None for errors that are not the database's."""
    if isinstance(error, PoolTimeout):
        return unavailable("The database is busy.")
    if isinstance(error, DBAPIError) and (
        isinstance(error, OperationalError) or error.connection_invalidated or _sqlstate(error) in _RETRYABLE_SQLSTATES
    ):
        return unavailable("The database is not available at the moment.")
    return None


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _sqlite_engine(url: URL, schema: str) -> Engine:
    engine = create_engine(url, execution_options={"schema_translate_map": {schema: None}})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN below decides, not the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA busy_timeout=5000")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":  # a read takes no write lock
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
