"""What clients keep for their user."""

import sqlalchemy as sa
from alembic import op

from services.shared.sql_dialect import Json, UtcDateTime, UuidText

revision = "0003"
down_revision = "0002"

SCHEMA = "auth"


def upgrade() -> None:
    op.create_table(
        "user_preferences",
        sa.Column("user_id", UuidText, nullable=False),
        sa.Column("preferences", Json(), nullable=False),
        sa.Column("modified_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_user_preferences"),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name="fk_user_preferences_user_id", ondelete="CASCADE"
        ),
        schema=SCHEMA,
    )
