"""Login sessions, their refresh tokens, and what was revoked."""

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, SmallInteger, String, Table

from services.auth.directory.tables import users
from services.auth.schema import metadata
from services.shared.sql_dialect import Json, UtcDateTime, UuidText

# One interactive login: the family of every refresh token that descends from it.
login_sessions = Table(
    "login_sessions",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("user_id", UuidText, ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    Column("auth_time", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("refreshed_at", UtcDateTime),  # when its refresh token was last replaced
    Column("provider_groups", Json, nullable=False),  # names the identity provider reported
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),  # SHA-256
    Column("session_id", UuidText, ForeignKey(login_sessions.c.id, ondelete="CASCADE"), nullable=False),
    Column("issued_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),  # when it was replaced
    Column("successor_salt", LargeBinary(32)),  # what its successor was derived with
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "session_id"),
)

revocations = Table(
    "revocations",
    metadata,
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),  # tmi.auth.v1.RevocationKind
    Column("id", String(64), primary_key=True),
    Column("revoked_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "expires_at"),
)
