"""The first tables: threat models, threats, diagrams and what surrounds them."""

import sqlalchemy as sa
from alembic import op

from services.shared.principal import (
    ADMINISTRATORS_GROUP_ID,
    BUILT_IN_PROVIDER,
    CONFIDENTIAL_PROJECT_REVIEWERS_GROUP_ID,
    EMBEDDING_AUTOMATION_GROUP_ID,
    EVERYONE_GROUP_ID,
    SECURITY_REVIEWERS_GROUP_ID,
    TMI_AUTOMATION_GROUP_ID,
)
from services.shared.sql_dialect import Json, SerialId, UtcDateTime, UuidText

revision = "0001"
down_revision = None

SCHEMA = "threat_model"

BUILT_IN_GROUPS = (
    (EVERYONE_GROUP_ID, "everyone", "Everyone"),
    (SECURITY_REVIEWERS_GROUP_ID, "security-reviewers", "Security Reviewers"),
    (ADMINISTRATORS_GROUP_ID, "administrators", "Administrators"),
    (CONFIDENTIAL_PROJECT_REVIEWERS_GROUP_ID, "confidential-project-reviewers", "Confidential Project Reviewers"),
    (TMI_AUTOMATION_GROUP_ID, "tmi-automation", "TMI Automation"),
    (EMBEDDING_AUTOMATION_GROUP_ID, "embedding-automation", "Embedding Automation"),
)


def upgrade() -> None:
    op.create_table(
        "alias_counters",
        sa.Column("scope_id", UuidText, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("next_alias", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope_id", "kind", name="pk_alias_counters"),
        schema=SCHEMA,
    )
    op.create_table(
        "audit_entries",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("threat_model_id", UuidText, nullable=False),
        sa.Column("object_type", sa.String(length=32), nullable=False),
        sa.Column("object_id", UuidText, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("change_type", sa.String(length=16), nullable=False),
        sa.Column("actor_email", sa.String(length=320), nullable=False),
        sa.Column("actor_provider", sa.String(length=100), nullable=False),
        sa.Column("actor_provider_id", sa.String(length=500), nullable=False),
        sa.Column("actor_display_name", sa.String(length=256), nullable=False),
        sa.Column("change_summary", sa.Text()),
        sa.Column("before", Json()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
        schema=SCHEMA,
    )
    op.create_index("ix_audit_entries_object", "audit_entries", ["object_id", "created_at", "id"], schema=SCHEMA)
    op.create_index(
        "ix_audit_entries_threat_model", "audit_entries", ["threat_model_id", "created_at", "id"], schema=SCHEMA
    )
    op.create_table(
        "outbox",
        sa.Column("id", SerialId, autoincrement=True, nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("threat_model_id", UuidText, nullable=False),
        sa.Column("object_id", UuidText, nullable=False),
        sa.Column("payload", Json(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("published_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_outbox_unpublished", "outbox", ["id"], schema=SCHEMA, postgresql_where=sa.text("published_at IS NULL")
    )
    principals = op.create_table(
        "principals",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("provider", sa.String(length=100), nullable=False),
        sa.Column("provider_id", sa.String(length=500), nullable=False),
        sa.Column("display_name", sa.String(length=256)),
        sa.Column("email", sa.String(length=320)),
        sa.PrimaryKeyConstraint("id", name="pk_principals"),
        schema=SCHEMA,
    )
    op.create_index("ix_principals_identity", "principals", ["provider", "provider_id"], schema=SCHEMA)
    op.create_index("ix_principals_email", "principals", [sa.text("lower(email)")], schema=SCHEMA)
    op.create_table(
        "threat_models",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("alias", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.String(length=2048)),
        sa.Column("framework", sa.String(length=30), nullable=False),
        sa.Column("issue_uri", sa.String(length=1000)),
        sa.Column("status", sa.String(length=128), nullable=False),
        sa.Column("status_updated", UtcDateTime(), nullable=False),
        sa.Column("is_confidential", sa.Boolean(), nullable=False),
        sa.Column("project_id", UuidText),
        sa.Column("owner_id", UuidText, nullable=False),
        sa.Column("created_by", UuidText, nullable=False),
        sa.Column("security_reviewer_id", UuidText),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("modified_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime()),
        sa.ForeignKeyConstraint(["created_by"], ["threat_model.principals.id"], name="fk_threat_models_created_by"),
        sa.ForeignKeyConstraint(["owner_id"], ["threat_model.principals.id"], name="fk_threat_models_owner_id"),
        sa.ForeignKeyConstraint(
            ["security_reviewer_id"], ["threat_model.principals.id"], name="fk_threat_models_security_reviewer_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_threat_models"),
        sa.UniqueConstraint("alias", name="uq_threat_models_alias"),
        schema=SCHEMA,
    )
    op.create_table(
        "diagrams",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("threat_model_id", UuidText, nullable=False),
        sa.Column("alias", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=2048)),
        sa.Column("image_svg", sa.Text()),
        sa.Column("image_update_vector", sa.BigInteger()),
        sa.Column("color_palette", Json()),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("include_in_report", sa.Boolean(), nullable=False),
        sa.Column("timmy_enabled", sa.Boolean(), nullable=False),
        sa.Column("auto_generated", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("update_vector", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("modified_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime()),
        sa.Column("session_id", UuidText),
        sa.Column("session_host", sa.LargeBinary()),
        sa.Column("session_started_at", UtcDateTime()),
        sa.Column("session_start_vector", sa.BigInteger()),
        sa.Column("session_activity_at", UtcDateTime()),
        sa.ForeignKeyConstraint(
            ["threat_model_id"],
            ["threat_model.threat_models.id"],
            name="fk_diagrams_threat_model_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_diagrams"),
        sa.UniqueConstraint("threat_model_id", "alias", name="uq_diagrams_threat_model_id"),
        schema=SCHEMA,
    )
    op.create_index("ix_diagrams_session", "diagrams", ["session_id"], unique=True, schema=SCHEMA)
    op.create_table(
        "threat_model_access",
        sa.Column("threat_model_id", UuidText, nullable=False),
        sa.Column("principal_id", UuidText, nullable=False),
        sa.Column("role", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["threat_model.principals.id"], name="fk_threat_model_access_principal_id"
        ),
        sa.ForeignKeyConstraint(
            ["threat_model_id"],
            ["threat_model.threat_models.id"],
            name="fk_threat_model_access_threat_model_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("threat_model_id", "principal_id", name="pk_threat_model_access"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_threat_model_access_principal", "threat_model_access", ["principal_id", "threat_model_id"], schema=SCHEMA
    )
    op.create_table(
        "diagram_cells",
        sa.Column("diagram_id", UuidText, nullable=False),
        sa.Column("cell_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["diagram_id"], ["threat_model.diagrams.id"], name="fk_diagram_cells_diagram_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("diagram_id", "cell_id", name="pk_diagram_cells"),
        schema=SCHEMA,
    )
    op.create_index("ix_diagram_cells_position", "diagram_cells", ["diagram_id", "position"], schema=SCHEMA)
    op.create_table(
        "diagram_operations",
        sa.Column("diagram_id", UuidText, nullable=False),
        sa.Column("update_vector", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("operation_id", sa.String(length=64), nullable=False),
        sa.Column("socket_id", sa.String(length=64), nullable=False),
        sa.Column("session_id", UuidText),
        sa.Column("initiating_user", sa.Text(), nullable=False),
        sa.Column("initiator_id", UuidText),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["diagram_id"], ["threat_model.diagrams.id"], name="fk_diagram_operations_diagram_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("diagram_id", "update_vector", name="pk_diagram_operations"),
        sa.UniqueConstraint("diagram_id", "operation_id", name="uq_diagram_operations_diagram_id"),
        schema=SCHEMA,
    )
    op.create_table(
        "threats",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("threat_model_id", UuidText, nullable=False),
        sa.Column("alias", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.String(length=2048)),
        sa.Column("mitigation", sa.String(length=1024)),
        sa.Column("threat_type", Json(), nullable=False),
        sa.Column("severity", sa.String(length=50)),
        sa.Column("priority", sa.String(length=256)),
        sa.Column("status", sa.String(length=256)),
        sa.Column("score", sa.Float()),
        sa.Column("mitigated", sa.Boolean(), nullable=False),
        sa.Column("issue_uri", sa.String(length=1000)),
        sa.Column("cwe_id", Json()),
        sa.Column("cvss", Json()),
        sa.Column("ssvc", Json()),
        sa.Column("diagram_id", UuidText),
        sa.Column("cell_id", sa.String(length=64)),
        sa.Column("asset_id", UuidText),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("include_in_report", sa.Boolean(), nullable=False),
        sa.Column("timmy_enabled", sa.Boolean(), nullable=False),
        sa.Column("auto_generated", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("modified_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime()),
        sa.ForeignKeyConstraint(
            ["diagram_id"], ["threat_model.diagrams.id"], name="fk_threats_diagram_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["threat_model_id"],
            ["threat_model.threat_models.id"],
            name="fk_threats_threat_model_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_threats"),
        sa.UniqueConstraint("threat_model_id", "alias", name="uq_threats_threat_model_id"),
        schema=SCHEMA,
    )
    op.create_index("ix_threats_diagram", "threats", ["diagram_id"], schema=SCHEMA)
    op.bulk_insert(
        principals,
        [
            {"id": id_, "type": "group", "provider": BUILT_IN_PROVIDER, "provider_id": name, "display_name": title}
            for id_, name, title in BUILT_IN_GROUPS
        ],
    )
