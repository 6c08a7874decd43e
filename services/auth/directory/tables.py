"""Users and groups.

E-mail addresses are stored in lower case. A user row that never logged in is sparse: somebody was named
before coming. Its `provider_id` is NULL when an address named it; otherwise its `email` is empty.
"""

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table, UniqueConstraint

from services.auth.schema import metadata
from services.shared.sql_dialect import UtcDateTime, UuidText

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
