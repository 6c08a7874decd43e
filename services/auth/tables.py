"""The auth service's tables: schema `auth` on PostgreSQL, no schema on SQLite.

Ids are UUIDs as text, timestamps aware UTC. E-mail addresses are stored in lower case. A user row
whose `provider_id` is NULL, or that never logged in, is sparse: somebody shared with that identity
before its owner came.
"""

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from services.shared.database import service_metadata
from services.shared.sql_dialect import Json, UtcDateTime, UuidText

SCHEMA = "auth"

metadata = service_metadata(SCHEMA)

users = Table(
    "users",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("provider", String(100), nullable=False),
    Column("provider_id", String(500)),
    Column("email", String(320), nullable=False),
    Column("display_name", String(256), nullable=False),
    Column("email_verified", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_login_at", UtcDateTime),
    UniqueConstraint("provider", "provider_id"),
    Index(None, "email"),
)
Index(
    "uq_users_sparse_email",
    users.c.provider,
    users.c.email,
    unique=True,
    postgresql_where=users.c.provider_id.is_(None),
    sqlite_where=users.c.provider_id.is_(None),
)

groups = Table(
    "groups",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("provider", String(100), nullable=False),
    Column("group_name", String(500), nullable=False),
    Column("display_name", String(256), nullable=False),
    UniqueConstraint("provider", "group_name"),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_id", UuidText, ForeignKey(groups.c.id, ondelete="CASCADE"), primary_key=True),
    Column("user_id", UuidText, ForeignKey(users.c.id, ondelete="CASCADE"), primary_key=True),
    Column("added_at", UtcDateTime, nullable=False),
    Index(None, "user_id"),
)

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
    Column("used_at", UtcDateTime),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "session_id"),
)

# `retired_at` is set when a successor exists: until then the key is published, afterwards dropped.
signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("algorithm", String(8), nullable=False),
    Column("private_key", Text, nullable=False),  # PEM
    Column("created_at", UtcDateTime, nullable=False),
    Column("active_from", UtcDateTime, nullable=False),
    Column("retired_at", UtcDateTime),
)
Index(
    "uq_signing_keys_newest",
    signing_keys.c.algorithm,
    unique=True,
    postgresql_where=signing_keys.c.retired_at.is_(None),
    sqlite_where=signing_keys.c.retired_at.is_(None),
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
