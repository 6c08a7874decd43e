"""Diagrams know how many bytes their cells have."""

import sqlalchemy as sa
from alembic import op

from services.shared.sql_dialect import is_postgresql, octets

revision = "0004"
down_revision = "0003"

SCHEMA = "threat_model"


def upgrade() -> None:
    schema = SCHEMA if is_postgresql(op.get_bind()) else None
    op.add_column(
        "diagrams",
        sa.Column("cells_bytes", sa.BigInteger(), nullable=False, server_default="0"),
        schema=schema,
    )
    diagrams = sa.table("diagrams", sa.column("id"), sa.column("cells_bytes"), schema=schema)
    cells = sa.table("diagram_cells", sa.column("diagram_id"), sa.column("data", sa.Text()), schema=schema)
    stored = sa.select(sa.func.sum(octets(cells.c.data))).where(cells.c.diagram_id == diagrams.c.id)
    op.execute(diagrams.update().values(cells_bytes=sa.func.coalesce(stored.scalar_subquery(), 0)))
