"""Groups and who is in them. Groups are compared by id; a name means nothing without its provider."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from services.auth.directory.tables import group_members, groups, users
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


@dataclass(frozen=True)
class Member:
    """A user who was added to a group. `provider_id` is None for one who was named by an address and never came."""

    id: str
    provider: str
    provider_id: str | None
    email: str
    display_name: str
    added_at: datetime


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


def exists(connection: Connection, group_id: str) -> bool:
    """Whether there is a group of this id."""
    return connection.scalar(select(groups.c.id).where(groups.c.id == group_id)) is not None


def members(connection: Connection, group_id: str, limit: int, offset: int) -> tuple[list[Member], int]:
    """A page of the users that were added to a group, in the order of their coming, and how many there are."""
    total = connection.scalar(
        select(func.count()).select_from(group_members).where(group_members.c.group_id == group_id)
    )
    rows = connection.execute(
        select(users, group_members.c.added_at)
        .join(group_members, group_members.c.user_id == users.c.id)
        .where(group_members.c.group_id == group_id)
        .order_by(group_members.c.added_at, users.c.id)
        .limit(limit)
        .offset(offset)
    )
    page = [Member(row.id, row.provider, row.provider_id, row.email, row.display_name, row.added_at) for row in rows]
    return page, total or 0


def of_provider(connection: Connection, provider: str, most: int) -> list[Group]:
    """The first of the groups of a provider that are recorded, by name."""
    rows = connection.execute(
        select(groups).where(groups.c.provider == provider).order_by(groups.c.group_name).limit(most)
    )
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
