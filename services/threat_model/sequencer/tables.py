"""The log of everything that changed a diagram's cells."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, Text, UniqueConstraint

from services.shared.sql_dialect import UtcDateTime, UuidText
from services.threat_model.cells.tables import diagrams
from services.threat_model.schema import metadata

# A row for every update_vector: a collaboration operation, or a REST write, of which there is only the inverse.
# It has no operation, and no operation_id either; the audit entry says who made it.
diagram_operations = Table(
    "diagram_operations",
    metadata,
    Column("diagram_id", UuidText, ForeignKey(diagrams.c.id, ondelete="CASCADE"), primary_key=True),
    Column("update_vector", BigInteger, primary_key=True, autoincrement=False),
    Column("operation_id", String(64)),
    Column("socket_id", String(64)),
    Column("session_id", UuidText),
    Column("initiating_user", Text),  # JSON of the User object
    Column("initiator_id", UuidText),
    Column("operation", Text),  # JSON of what took effect
    Column("inverse", Text),  # JSON of cells/inverses.py; NULL in rows that are older than the column
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("diagram_id", "operation_id"),
    Index("ix_diagram_operations_created", "created_at"),
)
