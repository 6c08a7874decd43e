"""What the tests of stored data share: identities, rows and racing calls."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import func, select

from services.auth.directory import users
from services.auth.directory.tables import users as users_table
from services.auth.directory.users import User
from services.auth.providers.identity import Identity
from services.shared import sql_dialect
from services.shared.database import Database
from tests.auth.client import Clock

Result = TypeVar("Result")

ALICE = Identity("tmi", "alice", "alice@tmi.local", "Alice", email_verified=False)
GOOGLE_ALICE = Identity("google", "42", "alice@tmi.local", "Alice G", email_verified=True)


def log_in(database: Database, identity: Identity, clock: Clock) -> User:
    return database.write(lambda connection: users.record_login(connection, identity, clock()))


def add_user(database: Database, clock: Clock, **values: Any) -> str:
    row = {
        "id": "11111111-1111-4111-8111-111111111111",
        "provider": "tmi",
        "provider_id": None,
        "email": "alice@tmi.local",
        "display_name": "somebody",
        "email_verified": False,
        "created_at": clock(),
        **values,
    }
    database.write(lambda connection: connection.execute(sql_dialect.insert(connection, users_table).values(row)))
    return str(row["id"])


def count(database: Database, table: Any) -> int:
    return database.read(lambda connection: connection.scalar(select(func.count()).select_from(table))) or 0


def at_once(work: Callable[[], Result], times: int) -> list[Result]:
    barrier = threading.Barrier(times)

    def run() -> Result:
        barrier.wait(10)
        return work()

    with ThreadPoolExecutor(times) as pool:
        return [future.result(30) for future in [pool.submit(run) for _ in range(times)]]
