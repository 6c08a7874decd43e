"""Which user an identity is, at login.

An e-mail address counts as a user's only when that user has logged in with it, or when the row is
known by nothing else (no provider id): a row that somebody's sharing created proves nothing about
the address written in it.

1. Same provider and provider id.
2. Same e-mail address, a row without a provider id: it becomes this identity's when the address is
   its own (verified, or of the dev provider for a row of that provider), otherwise 403
   `email_not_verified`.
3. Same provider and e-mail address, another provider id: that user, its id kept, when the address
   is verified, otherwise 409 `account_conflict`.
4. Same e-mail address, a user of another provider: 409 `account_conflict`.
5. Nobody: a new user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select, update

from services.auth.directory.tables import users
from services.auth.providers.identity import Identity
from services.shared import sql_dialect
from services.shared.errors import ApiError, conflict
from services.shared.uuids import uuid4


@dataclass(frozen=True)
class User:
    """A user who has logged in."""

    id: str
    provider: str
    provider_id: str
    email: str
    display_name: str
    email_verified: bool


def user_of(row: Row[Any]) -> User:
    """The user of a row that has the columns of `users`."""
    return User(row.id, row.provider, row.provider_id, row.email, row.display_name, row.email_verified)


def record_login(connection: Connection, identity: Identity, now: datetime) -> User:
    """Finds or creates the user and notes the login. Two statements.

    Raises ApiError 409 or 403 as above, and sqlalchemy.exc.IntegrityError when another login of
    the same identity got in between: the transaction may then be tried again.
    """
    rows = connection.execute(
        select(users)
        .where(
            or_(
                and_(users.c.provider == identity.provider, users.c.provider_id == identity.provider_id),
                users.c.email == identity.email,
            )
        )
        .order_by(users.c.id)
        .with_for_update()
    ).all()
    row = _choose(rows, identity)
    if row is None:
        return _create(connection, identity, now)
    return _update(connection, row, identity, now)


def _choose(rows: Sequence[Row[Any]], identity: Identity) -> Row[Any] | None:
    same_email = []
    for row in rows:
        if (row.provider, row.provider_id) == (identity.provider, identity.provider_id):
            return row
        if row.provider_id is None or row.last_login_at is not None:
            same_email.append(row)
    # Rows of the same provider first, and those without a provider id before the others.
    same_email.sort(key=lambda row: (row.provider != identity.provider, row.provider_id is not None))
    for row in same_email:
        same_provider = row.provider == identity.provider
        if row.provider_id is None:
            if identity.email_verified or (same_provider and identity.owns_email):
                return row
            raise ApiError(
                403, "email_not_verified", "Your identity provider has not verified the e-mail address of this account."
            )
        if same_provider and identity.email_verified:
            return row
        raise conflict("The e-mail address belongs to another account.", "account_conflict")
    return None


def _update(connection: Connection, row: Row[Any], identity: Identity, now: datetime) -> User:
    changes: dict[str, Any] = {
        "display_name": identity.display_name,
        "email_verified": identity.email_verified or (row.email_verified and row.email == identity.email),
        "last_login_at": now,
    }
    if row.provider_id is None or row.provider_id == identity.provider_id:
        changes |= {"provider": identity.provider, "provider_id": identity.provider_id, "email": identity.email}
    updated = connection.execute(update(users).where(users.c.id == row.id).values(**changes).returning(users)).one()
    return user_of(updated)


def _create(connection: Connection, identity: Identity, now: datetime) -> User:
    statement = sql_dialect.insert(connection, users).values(
        id=uuid4(),
        provider=identity.provider,
        provider_id=identity.provider_id,
        email=identity.email,
        display_name=identity.display_name,
        email_verified=identity.email_verified,
        created_at=now,
        last_login_at=now,
    )
    # The same person logging in twice at the same moment is one user.
    statement = statement.on_conflict_do_update(
        index_elements=[users.c.provider, users.c.provider_id], set_={"last_login_at": now}
    )
    return user_of(connection.execute(statement.returning(users)).one())
