"""What an account holds besides its identity."""

from sqlalchemy import Column, ForeignKey, Table

from services.auth.directory.tables import users
from services.auth.schema import metadata
from services.shared.sql_dialect import Json, UtcDateTime, UuidText

user_preferences = Table(
    "user_preferences",
    metadata,
    Column("user_id", UuidText, ForeignKey(users.c.id, ondelete="CASCADE"), primary_key=True),
    Column("preferences", Json, nullable=False),  # an object by client id
    Column("modified_at", UtcDateTime, nullable=False),
)
