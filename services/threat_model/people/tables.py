"""A local read model of auth's users and groups."""

from sqlalchemy import Column, Index, String, Table, func

from services.shared.sql_dialect import UuidText
from services.threat_model.schema import metadata

# A local read model of auth's users and groups, so that a list of owners costs no call.
principals = Table(
    "principals",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("type", String(8), nullable=False),  # user | group
    Column("provider", String(100), nullable=False),
    Column("provider_id", String(500), nullable=False),
    Column("display_name", String(256)),
    Column("email", String(320)),
    Index("ix_principals_identity", "provider", "provider_id"),
)
Index("ix_principals_email", func.lower(principals.c.email))
