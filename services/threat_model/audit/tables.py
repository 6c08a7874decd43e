"""The audit trail and the outbox."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from services.shared.sql_dialect import Json, SerialId, UtcDateTime, UuidText
from services.threat_model.schema import metadata

# Who changed what. The actor is a copy: entries outlive users. No foreign keys: they outlive models.
# `root_id` is the id of what the object stands under, a threat model for instance; its own for a root.
audit_entries = Table(
    "audit_entries",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("root_id", UuidText, nullable=False),
    Column("object_type", String(32), nullable=False),
    Column("object_id", UuidText, nullable=False),
    Column("version", Integer, nullable=False),
    Column("change_type", String(16), nullable=False),
    Column("actor_email", String(320), nullable=False),
    Column("actor_provider", String(100), nullable=False),
    Column("actor_provider_id", String(500), nullable=False),
    Column("actor_display_name", String(256), nullable=False),
    Column("change_summary", Text),
    Column("before", Json),  # former values of the members that changed
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_audit_entries_root", "root_id", "created_at", "id"),
    Index("ix_audit_entries_object", "object_id", "created_at", "id"),
    Index("ix_audit_entries_created", "created_at", "id"),
)

# Events to be published: written with the change, published by a worker afterwards.
outbox = Table(
    "outbox",
    metadata,
    Column("id", SerialId, primary_key=True, autoincrement=True),
    Column("event_type", String(64), nullable=False),
    Column("root_id", UuidText, nullable=False),
    Column("object_id", UuidText, nullable=False),
    Column("payload", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("published_at", UtcDateTime),
)
_unpublished = outbox.c.published_at.is_(None)
Index("ix_outbox_unpublished", outbox.c.id, postgresql_where=_unpublished, sqlite_where=_unpublished)
