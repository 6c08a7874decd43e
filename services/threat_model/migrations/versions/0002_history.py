"""History that can be given back: inverses in the log, which has a row for every change of the cells."""

import sqlalchemy as sa
from alembic import op

from services.shared.sql_dialect import is_postgresql

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
