"""History that can be given back and does not grow for ever: inverses in the log, schedules of the worker."""

import sqlalchemy as sa
from alembic import op

from services.shared.sql_dialect import UtcDateTime, is_postgresql

revision = "0002"
down_revision = "0001"

SCHEMA = "threat_model"


def upgrade() -> None:
    # SQLite copies the table, which it must find first: there it has no schema, and nothing else need be found.
    schema = SCHEMA if is_postgresql(op.get_bind()) else None
    with op.batch_alter_table("diagram_operations", schema=schema, reflect_kwargs={"resolve_fks": False}) as log:
        log.add_column(sa.Column("inverse", sa.Text()))
        log.alter_column("operation_id", existing_type=sa.String(length=64), nullable=True)
        log.alter_column("socket_id", existing_type=sa.String(length=64), nullable=True)
        log.alter_column("initiating_user", existing_type=sa.Text(), nullable=True)
        log.alter_column("operation", existing_type=sa.Text(), nullable=True)
    op.create_index("ix_diagram_operations_created", "diagram_operations", ["created_at"], schema=SCHEMA)
    op.create_index("ix_audit_entries_created", "audit_entries", ["created_at", "id"], schema=SCHEMA)
    op.create_table(
        "schedules",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_schedules"),
        schema=SCHEMA,
    )
    # SQLite now has it for unpublished events only, as PostgreSQL always had.
    op.drop_index("ix_outbox_unpublished", "outbox", schema=SCHEMA)
    unpublished = sa.text("published_at IS NULL")
    op.create_index(
        "ix_outbox_unpublished",
        "outbox",
        ["id"],
        schema=SCHEMA,
        postgresql_where=unpublished,
        sqlite_where=unpublished,
    )
