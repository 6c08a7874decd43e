"""The threat-model service's tables: schema `threat_model` on PostgreSQL, no schema on SQLite.

Ids are UUIDs as text, timestamps aware UTC. `version` counts the successful writes of a row and is
its ETag; `deleted_at` marks a soft delete.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)

from services.shared.database import service_metadata
from services.shared.sql_dialect import Json, SerialId, UtcDateTime, UuidText

SCHEMA = "threat_model"

metadata = service_metadata(SCHEMA)

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

READER, WRITER, OWNER = 1, 2, 3
"""`role`: greater includes lesser."""

# The owner of a threat model always has an owner row here: access is this table and nothing else.
threat_model_access = Table(
    "threat_model_access",
    metadata,
    Column("threat_model_id", UuidText, ForeignKey(threat_models.c.id, ondelete="CASCADE"), primary_key=True),
    Column("principal_id", UuidText, ForeignKey(principals.c.id), primary_key=True),
    Column("role", SmallInteger, nullable=False),
    Index("ix_threat_model_access_principal", "principal_id", "threat_model_id"),
)

diagrams = Table(
    "diagrams",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("threat_model_id", UuidText, ForeignKey(threat_models.c.id, ondelete="CASCADE"), nullable=False),
    Column("alias", Integer, nullable=False),
    Column("name", String(256), nullable=False),
    Column("type", String(64), nullable=False),
    Column("description", String(2048)),
    Column("image_svg", Text),  # base64
    Column("image_update_vector", BigInteger),
    Column("color_palette", Json),  # [{position, color}] sorted by position, or NULL
    Column("metadata", Json, nullable=False),
    Column("include_in_report", Boolean, nullable=False),
    Column("timmy_enabled", Boolean, nullable=False),
    Column("auto_generated", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    # Grows by exactly 1 with every change of the cells, whoever makes it.
    Column("update_vector", BigInteger, nullable=False, default=0),
    Column("created_at", UtcDateTime, nullable=False),
    Column("modified_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    # The live collaboration session: all NULL when there is none.
    Column("session_id", UuidText),
    Column("session_host", LargeBinary),  # serialized tmi.principal.v1.Principal
    Column("session_started_at", UtcDateTime),
    Column("session_start_vector", BigInteger),
    Column("session_activity_at", UtcDateTime),
    UniqueConstraint("threat_model_id", "alias"),
)
Index("ix_diagrams_session", diagrams.c.session_id, unique=True)

diagram_cells = Table(
    "diagram_cells",
    metadata,
    Column("diagram_id", UuidText, ForeignKey(diagrams.c.id, ondelete="CASCADE"), primary_key=True),
    Column("cell_id", String(64), primary_key=True),
    Column("position", BigInteger, nullable=False),  # ascending order of the cells, gaps allowed
    Column("data", Text, nullable=False),  # JSON text of the whole cell
    Index("ix_diagram_cells_position", "diagram_id", "position"),
)

# The log of committed collaboration operations.
diagram_operations = Table(
    "diagram_operations",
    metadata,
    Column("diagram_id", UuidText, ForeignKey(diagrams.c.id, ondelete="CASCADE"), primary_key=True),
    Column("update_vector", BigInteger, primary_key=True, autoincrement=False),
    Column("operation_id", String(64), nullable=False),
    Column("socket_id", String(64), nullable=False),
    Column("session_id", UuidText),
    Column("initiating_user", Text, nullable=False),  # JSON of the User object
    Column("initiator_id", UuidText),
    Column("operation", Text, nullable=False),  # JSON of what took effect
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("diagram_id", "operation_id"),
)

threats = Table(
    "threats",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("threat_model_id", UuidText, ForeignKey(threat_models.c.id, ondelete="CASCADE"), nullable=False),
    Column("alias", Integer, nullable=False),
    Column("name", String(256), nullable=False),
    Column("description", String(2048)),
    Column("mitigation", String(1024)),
    Column("threat_type", Json, nullable=False),  # ["Spoofing", …]
    Column("severity", String(50)),
    Column("priority", String(256)),
    Column("status", String(256)),
    Column("score", Float),
    Column("mitigated", Boolean, nullable=False),
    Column("issue_uri", String(1000)),
    Column("cwe_id", Json),  # NULL when empty
    Column("cvss", Json),  # NULL when empty
    Column("ssvc", Json),
    Column("diagram_id", UuidText, ForeignKey(diagrams.c.id, ondelete="SET NULL")),
    Column("cell_id", String(64)),
    Column("asset_id", UuidText),
    Column("metadata", Json, nullable=False),
    Column("include_in_report", Boolean, nullable=False),
    Column("timmy_enabled", Boolean, nullable=False),
    Column("auto_generated", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("modified_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    UniqueConstraint("threat_model_id", "alias"),
    Index("ix_threats_diagram", "diagram_id"),
)

NO_SCOPE = "00000000-0000-0000-0000-000000000000"
"""`scope_id` of aliases that are not unique within a threat model but in the whole system."""

# The next alias of each kind of object, per threat model: aliases are never used twice.
alias_counters = Table(
    "alias_counters",
    metadata,
    Column("scope_id", UuidText, primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("next_alias", Integer, nullable=False),
)

# Who changed what. The actor is a copy: entries outlive users. No foreign keys: they outlive models.
audit_entries = Table(
    "audit_entries",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("threat_model_id", UuidText, nullable=False),
    Column("object_type", String(32), nullable=False),
    Column("object_id", UuidText, nullable=False),
    Column("version", Integer, nullable=False),
    Column("change_type", String(16), nullable=False),
    Column("actor_email", String(320), nullable=False),
    Column("actor_provider", String(100), nullable=False),
    Column("actor_provider_id", String(500), nullable=False),
    Column("actor_display_name", String(256), nullable=False),
    Column("change_summary", Text),
    Column("before", Json),  # the document before the change; after it for `created`
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_audit_entries_threat_model", "threat_model_id", "created_at", "id"),
    Index("ix_audit_entries_object", "object_id", "created_at", "id"),
)

# Events to be published: written with the change, taken by a publisher afterwards.
outbox = Table(
    "outbox",
    metadata,
    Column("id", SerialId, primary_key=True, autoincrement=True),
    Column("event_type", String(64), nullable=False),
    Column("threat_model_id", UuidText, nullable=False),
    Column("object_id", UuidText, nullable=False),
    Column("payload", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("published_at", UtcDateTime),
)
Index("ix_outbox_unpublished", outbox.c.id, postgresql_where=outbox.c.published_at.is_(None))
