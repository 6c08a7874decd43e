"""Users, groups, login sessions, refresh tokens, signing keys and revocations; the built-in groups."""

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
from services.shared.sql_dialect import Json, UtcDateTime, UuidText

revision = "0001"
down_revision = None

SCHEMA = "auth"

BUILT_IN_GROUPS = (
    (EVERYONE_GROUP_ID, "everyone", "Everyone"),
    (SECURITY_REVIEWERS_GROUP_ID, "security-reviewers", "Security Reviewers"),
    (ADMINISTRATORS_GROUP_ID, "administrators", "Administrators"),
    (CONFIDENTIAL_PROJECT_REVIEWERS_GROUP_ID, "confidential-project-reviewers", "Confidential Project Reviewers"),
    (TMI_AUTOMATION_GROUP_ID, "tmi-automation", "TMI Automation"),
    (EMBEDDING_AUTOMATION_GROUP_ID, "embedding-automation", "Embedding Automation"),
)


def upgrade() -> None:
    _users()
    _groups()
    _sessions()
    _keys_and_revocations()


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("provider", sa.String(100), nullable=False),
        sa.Column("provider_id", sa.String(500)),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("display_name", sa.String(256), nullable=False),
        sa.Column("email_verified", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_login_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("provider", "provider_id", name="uq_users_provider"),
        schema=SCHEMA,
    )
    op.create_index("ix_users_email", "users", ["email"], schema=SCHEMA)
    op.create_index(
        "uq_users_sparse_email",
        "users",
        ["provider", "email"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("provider_id IS NULL"),
        sqlite_where=sa.text("provider_id IS NULL"),
    )


def _groups() -> None:
    groups = op.create_table(
        "groups",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("provider", sa.String(100), nullable=False),
        sa.Column("group_name", sa.String(500), nullable=False),
        sa.Column("display_name", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
        sa.UniqueConstraint("provider", "group_name", name="uq_groups_provider"),
        schema=SCHEMA,
    )
    op.bulk_insert(
        groups,
        [
            {"id": identifier, "provider": BUILT_IN_PROVIDER, "group_name": name, "display_name": display_name}
            for identifier, name, display_name in BUILT_IN_GROUPS
        ],
    )
    op.create_table(
        "group_members",
        sa.Column("group_id", UuidText, nullable=False),
        sa.Column("user_id", UuidText, nullable=False),
        sa.Column("added_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("group_id", "user_id", name="pk_group_members"),
        sa.ForeignKeyConstraint(
            ["group_id"], [f"{SCHEMA}.groups.id"], name="fk_group_members_group_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name="fk_group_members_user_id", ondelete="CASCADE"
        ),
        schema=SCHEMA,
    )
    op.create_index("ix_group_members_user_id", "group_members", ["user_id"], schema=SCHEMA)


def _sessions() -> None:
    op.create_table(
        "login_sessions",
        sa.Column("id", UuidText, nullable=False),
        sa.Column("user_id", UuidText, nullable=False),
        sa.Column("auth_time", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime()),
        sa.Column("provider_groups", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_login_sessions"),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name="fk_login_sessions_user_id", ondelete="CASCADE"
        ),
        schema=SCHEMA,
    )
    op.create_index("ix_login_sessions_user_id", "login_sessions", ["user_id"], schema=SCHEMA)
    op.create_index("ix_login_sessions_expires_at", "login_sessions", ["expires_at"], schema=SCHEMA)
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("session_id", UuidText, nullable=False),
        sa.Column("issued_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime()),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_refresh_tokens"),
        sa.ForeignKeyConstraint(
            ["session_id"], [f"{SCHEMA}.login_sessions.id"], name="fk_refresh_tokens_session_id", ondelete="CASCADE"
        ),
        schema=SCHEMA,
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"], schema=SCHEMA)


def _keys_and_revocations() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("algorithm", sa.String(8), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("active_from", UtcDateTime(), nullable=False),
        sa.Column("retired_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_keys"),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_signing_keys_newest",
        "signing_keys",
        ["algorithm"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("retired_at IS NULL"),
        sqlite_where=sa.text("retired_at IS NULL"),
    )
    op.create_table(
        "revocations",
        sa.Column("kind", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", name="pk_revocations"),
        schema=SCHEMA,
    )
    op.create_index("ix_revocations_expires_at", "revocations", ["expires_at"], schema=SCHEMA)
