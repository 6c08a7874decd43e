"""The SQL database of a service: engine, transactions, and what its failures mean to a client."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.shared import deadline, sql_dialect
from services.shared.constraints import Constraints
from services.shared.errors import ApiError, unavailable
from services.shared.principal import current_call
from services.shared.settings import Settings
from services.shared.startup import CannotStart

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_RETRYABLE_SQLSTATES = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_QUERY_CANCELED = "57014"
_DISK_FULL_RETRY_SECONDS = 30
_ATTEMPTS = 3
_FIRST_RETRY_SECONDS = 0.01
_THREADS_FOR_READS = 2
_IDLE_SECONDS = 5.0
"""How long a transaction may stand still: a process that is frozen within one must not keep its locks for long."""
_PATIENCE_SECONDS = 1.0
"""How long the transactions that run may take none forward before further ones are refused."""


def normalise(url: str) -> URL:
    """SQLAlchemy URL for the supported engines. Raises ValueError, which names them, for others."""
    parsed = make_url(url)
    name = parsed.get_backend_name()
    if name in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if name in ("sqlite", "sqlite3"):
        return parsed.set(drivername="sqlite+pysqlite")
    raise ValueError(
        f"unsupported database scheme {name!r}: supported are PostgreSQL (postgresql://host/name) for production and"
        " SQLite (sqlite:///path/to/file) for one machine"
    )


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
    """Connections of one service. `schema` is its own on PostgreSQL; SQLite has one for all.

    A write that waits for a row which somebody else holds keeps a thread and a connection. It waits
    `lock_timeout_seconds` at most, and `writers` bounds how many transactions there are at once, so that
    reads, which wait for no row, always find a thread. No statement may take longer than
    `statement_timeout_seconds`.
    """

    def __init__(
        self,
        url: str,
        schema: str,
        *,
        pool_size: int = 20,
        writers: int = 6,
        lock_timeout_seconds: float = 5.0,
        statement_timeout_seconds: float = 20.0,
    ) -> None:
        parsed = normalise(url)
        self.schema = schema
        if parsed.get_backend_name() == "sqlite":
            self.engine = _sqlite_engine(parsed, schema, lock_timeout_seconds)
        else:
            options = {
                "timezone": "UTC",
                "default_transaction_isolation": r"read\ committed",
                "lock_timeout": _milliseconds(lock_timeout_seconds),
                "statement_timeout": _milliseconds(statement_timeout_seconds),
                "idle_in_transaction_session_timeout": _milliseconds(_IDLE_SECONDS),
            }
            self.engine = create_engine(
                parsed,
                pool_size=pool_size,
                max_overflow=0,
                pool_use_lifo=True,  # keeps few connections busy, whose prepared statements are warm
                pool_timeout=5,
                pool_recycle=240,
                connect_args={
                    "connect_timeout": 5,
                    "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
                },
            )
        event.listen(self.engine, "before_cursor_execute", _stop_after_deadline)
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writers = _Writers(writers)

    @classmethod
    def from_settings(cls, settings: Settings, schema: str) -> "Database":
        """The database that TMI_DATABASE_URL names. Raises CannotStart when it names none."""
        if not settings.database_url:
            raise CannotStart("TMI_DATABASE_URL is not set: name a database, such as postgresql://localhost/tmi.")
        try:
            return cls(
                settings.database_url,
                schema,
                pool_size=settings.db_max_open_conns,
                writers=max(1, min(settings.grpc_workers, settings.db_max_open_conns) - _THREADS_FOR_READS),
                lock_timeout_seconds=min(settings.db_lock_timeout_seconds, settings.request_timeout_seconds),
                statement_timeout_seconds=min(settings.db_statement_timeout_seconds, settings.request_timeout_seconds),
            )
        except (ValueError, ArgumentError) as error:
            raise CannotStart(f"TMI_DATABASE_URL cannot be used: {error}.") from error

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Runs single SELECTs without a transaction around them; each sees its own snapshot."""
        return self._attempt(self._autocommit.connect, work)

    def write(self, work: Callable[[Connection], Result], *, before_role: bool = False) -> Result:
        """Runs `work` in one transaction. It may run again after a deadlock or a serialization failure.

        In a call of an operation that asks for a role, nothing is committed before the handler has
        required it: raises RoleNotRequired. before_role: what is written is allowed to every caller.
        Raises ApiError 503 while too many others write and none of them gets on, and when the deadline of
        the call is over before COMMIT.
        """
        call = None if before_role else current_call.get()

        def work_and_check(connection: Connection) -> Result:
            result = work(connection)
            if call is not None:
                call.ensure_required()
            deadline.check()
            return result

        with self._writers.one():
            return self._attempt(self.engine.begin, work_and_check)

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Tries to hold the lock `name` of this service for the block, over any number of transactions.

        False when another process holds it. On SQLite it excludes nobody.
        """
        with (
            self._autocommit.connect() as connection,
            sql_dialect.advisory_lock(connection, f"{self.schema}.{name}") as locked,
        ):
            yield locked

    def _attempt(self, open_connection: Callable[[], Any], work: Callable[[Connection], Result]) -> Result:
        for attempt in range(1, _ATTEMPTS + 1):
            deadline.check()
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
                # Those who met in a deadlock would meet again if they waited equally long.
                time.sleep(random.uniform(0.5, 1.5) * _FIRST_RETRY_SECONDS * 2**attempt)  # noqa: S311
        raise AssertionError("the loop returns or raises")

    def has_room(self) -> bool:
        """Whether the disk of the database could still store something."""
        return self.read(sql_dialect.has_room)

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


class _Writers:
    """Bounds how many transactions run at once."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._changed = threading.Condition()
        self._moved_at = time.monotonic()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Holds a place. Raises ApiError 503 when nobody has taken or left one for a while.

        Whoever waits for a place keeps a thread that reads need. So waiting ends a while after the last
        movement, not after its own beginning: while all others are stuck nobody waits at all.
        """
        with self._changed:
            while not self._free:
                deadline.check()
                patience = self._moved_at + _PATIENCE_SECONDS - time.monotonic()
                if patience <= 0:
                    raise unavailable("Too many changes wait for others to finish: try again.", 1)
                self._changed.wait(min(patience, deadline.seconds_left()))
            self._move(-1)
        try:
            yield
        finally:
            with self._changed:
                self._move(1)
                self._changed.notify_all()

    def _move(self, places: int) -> None:
        self._free += places
        self._moved_at = time.monotonic()


def _stop_after_deadline(*_: Any) -> None:
    deadline.check()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def translate_database_error(error: Exception, constraints: Constraints) -> ApiError | None:
    """503 when the database cannot serve, 409 or 400 for a violated constraint; None for what is no such error."""
    if isinstance(error, PoolTimeout):
        return unavailable("The database is busy.")
    if not isinstance(error, DBAPIError):
        return None
    if violated := constraints.translate(error):
        return violated
    if sql_dialect.is_lock_timeout(error):
        return unavailable("The object is being changed by somebody else: try again.", 1)
    if _sqlstate(error) in _RETRYABLE_SQLSTATES:
        return unavailable("Several requests change the same objects at once: try again.", 1)
    if _sqlstate(error) == _QUERY_CANCELED:
        return unavailable("The database took too long for this request.")
    if sql_dialect.is_disk_full(error):
        return unavailable(
            "The disk of the database is full: nothing can be stored at the moment.", _DISK_FULL_RETRY_SECONDS
        )
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return unavailable("The database is not available at the moment.")
    return None


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _sqlite_engine(url: URL, schema: str, lock_timeout_seconds: float) -> Engine:
    engine = create_engine(url, execution_options={"schema_translate_map": {schema: None}})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN below decides, not the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA busy_timeout={_milliseconds(lock_timeout_seconds)}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":  # a read takes no write lock
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
