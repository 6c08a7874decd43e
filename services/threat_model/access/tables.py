"""The threat model, which roles are roles on, and the roles.

It stands here and not beside its handlers, because everything that asks for a role asks whether the threat
model is live as well.
"""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, SmallInteger, String, Table

from services.shared.sql_dialect import Json, UtcDateTime, UuidText
from services.threat_model.people.tables import principals
from services.threat_model.schema import metadata

threat_models = Table(
    "threat_models",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("alias", Integer, nullable=False, unique=True),
    Column("name", String(256), nullable=False),
    Column("description", String(2048)),
    Column("framework", String(30), nullable=False),
    Column("issue_uri", String(1000)),
    Column("status", String(128), nullable=False),
    Column("status_updated", UtcDateTime, nullable=False),
    Column("is_confidential", Boolean, nullable=False),
    Column("project_id", UuidText),
    Column("owner_id", UuidText, ForeignKey(principals.c.id), nullable=False),
    Column("created_by", UuidText, ForeignKey(principals.c.id), nullable=False),
    Column("security_reviewer_id", UuidText, ForeignKey(principals.c.id)),
    Column("metadata", Json, nullable=False),  # [{key, value}] sorted by key
    Column("version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("modified_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)

# The owner of a threat model always has an owner row here: access is this table and nothing else.
threat_model_access = Table(
    "threat_model_access",
    metadata,
    Column("threat_model_id", UuidText, ForeignKey(threat_models.c.id, ondelete="CASCADE"), primary_key=True),
    Column("principal_id", UuidText, ForeignKey(principals.c.id), primary_key=True),
    Column("role", SmallInteger, nullable=False),  # services.shared.access
    Index("ix_threat_model_access_principal", "principal_id", "threat_model_id"),
)
