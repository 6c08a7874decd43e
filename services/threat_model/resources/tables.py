"""What the engine itself keeps."""

from sqlalchemy import Column, Integer, String, Table

from services.shared.sql_dialect import UuidText
from services.threat_model.schema import metadata

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
