"""Diagrams and their cells, which REST and the sequencer write both."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from services.shared.sql_dialect import Json, UtcDateTime, UuidText
from services.threat_model.access.tables import threat_models
from services.threat_model.schema import metadata

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
    # Of the JSON texts of its cells: maintained by whoever writes those.
    Column("cells_bytes", BigInteger, nullable=False, server_default="0"),
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
