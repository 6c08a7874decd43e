"""Children of a threat model that are documents of their own."""

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, UniqueConstraint

from services.shared.sql_dialect import Json, UtcDateTime, UuidText
from services.threat_model.access.tables import threat_models
from services.threat_model.cells.tables import diagrams
from services.threat_model.schema import metadata

assets = Table(
    "assets",
    metadata,
    Column("id", UuidText, primary_key=True),
    Column("threat_model_id", UuidText, ForeignKey(threat_models.c.id, ondelete="CASCADE"), nullable=False),
    Column("alias", Integer, nullable=False),
    Column("name", String(256), nullable=False),
    Column("description", String(2048)),
    Column("type", String(64), nullable=False),
    Column("criticality", String(128)),
    Column("classification", Json),  # ["PII", …], NULL when empty
    Column("sensitivity", String(128)),
    Column("metadata", Json, nullable=False),
    Column("include_in_report", Boolean, nullable=False),
    Column("timmy_enabled", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("modified_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    UniqueConstraint("threat_model_id", "alias"),
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
