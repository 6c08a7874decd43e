"""The keys that sign access tokens."""

from sqlalchemy import Column, Index, String, Table, Text

from services.auth.schema import metadata
from services.shared.sql_dialect import UtcDateTime

# `retired_at` is set when a successor exists: until then the key is published, afterwards dropped.
signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("algorithm", String(8), nullable=False),
    Column("private_key", Text, nullable=False),  # PEM, see services.shared.encryption
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
