"""The log of committed collaboration operations."""

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table, Text, UniqueConstraint

from services.shared.sql_dialect import UtcDateTime, UuidText
from services.threat_model.cells.tables import diagrams
from services.threat_model.schema import metadata

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
