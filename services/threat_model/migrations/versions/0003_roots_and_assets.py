"""Audit entries and events name the root that an object stands under; assets."""

import sqlalchemy as sa
from alembic import op

from services.shared.sql_dialect import Json, UtcDateTime, UuidText, is_postgresql

revision = "0003"
down_revision = "0002"

SCHEMA = "threat_model"


def upgrade() -> None:
    # A renaming names its table as it is: SQLite has no schemas.
    schema = SCHEMA if is_postgresql(op.get_bind()) else None
    for table in ("audit_entries", "outbox"):
        op.alter_column(table, "threat_model_id", new_column_name="root_id", schema=schema)
    op.drop_index("ix_audit_entries_threat_model", "audit_entries", schema=SCHEMA)
    op.create_index("ix_audit_entries_root", "audit_entries", ["root_id", "created_at", "id"], schema=SCHEMA)
    op.create_table(
        "assets",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("threat_model_id", UuidText, nullable=False),
        sa.Column("alias", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.String(length=2048)),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("criticality", sa.String(length=128)),
        sa.Column("classification", Json()),
        sa.Column("sensitivity", sa.String(length=128)),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("include_in_report", sa.Boolean(), nullable=False),
        sa.Column("timmy_enabled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("modified_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime()),
        sa.ForeignKeyConstraint(
            ["threat_model_id"],
            [f"{SCHEMA}.threat_models.id"],
            name="fk_assets_threat_model_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_assets"),
        sa.UniqueConstraint("threat_model_id", "alias", name="uq_assets_threat_model_id"),
        schema=SCHEMA,
    )
