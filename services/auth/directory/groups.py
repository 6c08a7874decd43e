"""Groups and who is in them. Groups are compared by id; a name means nothing without its provider."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from services.auth.directory.tables import group_members, groups
from services.shared import sql_dialect
from services.shared.principal import (
    ADMINISTRATORS_GROUP_ID,
    BUILT_IN_PROVIDER,
    SECURITY_REVIEWERS_GROUP_ID,
)


@dataclass(frozen=True)
class Group:
    """A group the user is effectively in."""

    id: str
    provider: str
    name: str
    display_name: str


def direct_groups(connection: Connection, user_id: str) -> list[Group]:
    """The groups a user was added to, by name. `everyone` has no stored members."""
    return effective_groups(connection, user_id, "", ())


def effective_groups(
    connection: Connection, user_id: str, provider: str, provider_groups: Sequence[str]
) -> list[Group]:
    """The groups a user was added to and those of the identity provider, by name.

    provider_groups: names that `provider` reported. They select groups of that provider only, so
    they can never confer a built-in group, not even when the provider has the built-in one's id.
    """
    condition: ColumnElement[bool] = groups.c.id.in_(
        select(group_members.c.group_id).where(group_members.c.user_id == user_id)
    )
    if provider_groups and provider != BUILT_IN_PROVIDER:
        condition = or_(condition, and_(groups.c.provider == provider, groups.c.group_name.in_(provider_groups)))
    rows = connection.execute(select(groups).where(condition).order_by(groups.c.group_name, groups.c.id))
    return [Group(row.id, row.provider, row.group_name, row.display_name) for row in rows]


def add_member(connection: Connection, group_ids: Sequence[str], user_id: str, now: datetime) -> None:
    """Makes the user a member of the groups; already being one is fine."""
    connection.execute(
        sql_dialect.insert(connection, group_members)
        .values([{"group_id": group_id, "user_id": user_id, "added_at": now} for group_id in group_ids])
        .on_conflict_do_nothing()
    )


def promote_first_user(connection: Connection, user_id: str, now: datetime) -> bool:
    """Makes the user an administrator and security reviewer while there is no administrator.

    The lock on the group's row makes two first logins at once wait for each other.
    """
    if _has_administrator(connection):
        return False
    connection.execute(select(groups.c.id).where(groups.c.id == ADMINISTRATORS_GROUP_ID).with_for_update())
    if _has_administrator(connection):
        return False
    add_member(connection, (ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID), user_id, now)
    return True


def _has_administrator(connection: Connection) -> bool:
    found = connection.scalar(
        select(group_members.c.user_id).where(group_members.c.group_id == ADMINISTRATORS_GROUP_ID).limit(1)
    )
    return found is not None
