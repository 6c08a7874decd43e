"""Deletes what has expired: sessions with their refresh tokens, revocations, retired keys."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from prometheus_client import Counter
from sqlalchemy import Connection, delete
from sqlalchemy.exc import SQLAlchemyError

from services.auth.sessions.tables import login_sessions, revocations
from services.auth.tokens.tables import signing_keys
from services.shared.database import Database

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 3600
EXPIRED = Counter("tmi_auth_expired_rows_total", "Rows deleted because they had expired.", ["table"])


def delete_expired(connection: Connection, now: datetime) -> dict[str, int]:
    """Deletes expired rows; how many, by table. A used refresh token lives as long as its session, because
    its reuse must be noticed until then."""
    ends = (login_sessions.c.expires_at, revocations.c.expires_at, signing_keys.c.retired_at)
    return {end.table.name: connection.execute(delete(end.table).where(end <= now)).rowcount for end in ends}


def start(database: Database, now: Callable[[], datetime]) -> None:
    """Runs now and every hour, in a thread that ends with the process."""
    threading.Thread(target=_repeat, args=(database, now), name="housekeeping", daemon=True).start()


def run(database: Database, now: datetime) -> None:
    """Deletes expired rows; a database that cannot be reached is logged and left for the next time."""
    try:
        deleted = database.write(lambda connection: delete_expired(connection, now))
        for table, rows in deleted.items():
            EXPIRED.labels(table).inc(rows)
        logger.info("expired rows deleted", extra={"rows": sum(deleted.values())})
    except SQLAlchemyError as error:
        logger.warning("expired rows not deleted", extra={"error": type(error).__name__})


def _repeat(database: Database, now: Callable[[], datetime]) -> None:
    pause = threading.Event()
    while True:
        run(database, now())
        pause.wait(INTERVAL_SECONDS)
