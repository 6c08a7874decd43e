"""When a session's refresh token was last replaced, and what its successor was derived with."""

import sqlalchemy as sa
from alembic import op

from services.shared.sql_dialect import UtcDateTime, is_postgresql

revision = "0002"
down_revision = "0001"

SCHEMA = "auth"


def upgrade() -> None:
    # Alembic's ALTER TABLE is not told that SQLite has no schema.
    schema = SCHEMA if is_postgresql(op.get_bind()) else None
    op.add_column("login_sessions", sa.Column("refreshed_at", UtcDateTime()), schema=schema)
    op.add_column("refresh_tokens", sa.Column("successor_salt", sa.LargeBinary(32)), schema=schema)
