"""When recurring work was last done."""

from sqlalchemy import Column, String, Table

from services.shared.sql_dialect import UtcDateTime
from services.threat_model.schema import metadata

schedules = Table(
    "schedules",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("finished_at", UtcDateTime, nullable=False),  # the last time it succeeded
)
