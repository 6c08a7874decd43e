"""Whether the disk of the database is full: as a failed statement says it, and asked before one fails."""

import shutil
import sqlite3
from pathlib import Path

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from services.shared.sql_dialect.statements import is_postgresql

_ROOM_BYTES = 512 * 1024
"""What has to be free: on PostgreSQL about what _SPILL writes into a temporary file."""
_SPILL = text("SELECT count(*) FROM generate_series(1, 20000)")


def is_disk_full(error: DBAPIError) -> bool:
    """Whether a statement failed for want of room (SQLSTATE 53100, SQLITE_FULL)."""
    cause = error.orig
    if isinstance(cause, psycopg.errors.DiskFull):
        return True
    return isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL"


def has_room(connection: Connection) -> bool:
    """Whether something could still be stored. Changes nothing.

    A row that is written would say little: it may find room in a page that is there already. PostgreSQL is
    made to spill a result into a temporary file, which goes where the tables go unless `temp_tablespaces`
    says otherwise, and costs neither log nor dead rows. The file of SQLite is on this machine.
    """
    connection.execute(text("SELECT 1"))
    if not is_postgresql(connection):
        file = connection.engine.url.database
        return not file or shutil.disk_usage(Path(file).resolve().parent).free >= _ROOM_BYTES
    connection.execute(text("SET work_mem = '64kB'"))
    try:
        connection.execute(_SPILL)
    except DBAPIError as error:
        if is_disk_full(error):
            return False
        raise
    finally:
        connection.execute(text("RESET work_mem"))
    return True
