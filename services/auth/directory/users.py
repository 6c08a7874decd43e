"""Which user an identity is, at login.

An e-mail address counts as an identity's or a user's only when its provider vouches for it (verified, or
the dev provider). A sparse row, made when somebody was named before the first login, holds either a
provider id or an address. It is there for its owner: it never keeps anybody from logging in.

1. Same provider and provider id, also of a sparse row.
2. A sparse row of the same provider whose address is the identity's own, or is its provider id.
3. Same provider and address, another provider id: that user, its id kept, when the address of the
   identity is verified, otherwise 409 `account_conflict`.
4. Same address, a user of another provider: 409 `account_conflict`.
5. A sparse row of another provider whose address the identity has verified.
6. Nobody: a new user.

Rows of people are locked in the order of their ids, and then at most one is inserted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, or_, select, update

from services.auth.directory.tables import users
from services.auth.providers.identity import Identity
from services.shared import sql_dialect
from services.shared.errors import conflict
from services.shared.principal import BUILT_IN_PROVIDER
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

    Raises ApiError 409 as above, and sqlalchemy.exc.IntegrityError when another login of
    the same identity got in between: the transaction may then be tried again.
    """
    row = _choose(connection.execute(_meant(identity).with_for_update()).all(), identity)
    if row is None:
        return _create(connection, identity, now)
    return _update(connection, row, identity, now)


def check_login(connection: Connection, identity: Identity) -> None:
    """Raises ApiError 409 where record_login would now, and changes nothing."""
    _choose(connection.execute(_meant(identity)).all(), identity)


def _meant(identity: Identity) -> Select[Any]:
    """Every row that may be the identity's user, in the order of their ids."""
    same_provider = users.c.provider == identity.provider
    meant = [
        and_(same_provider, users.c.provider_id == identity.provider_id),
        and_(same_provider, users.c.provider_id.is_(None), users.c.email == identity.provider_id.lower()),
    ]
    if identity.email:
        meant.append(users.c.email == identity.email)
    return select(users, owns_email().label("owns_email")).where(or_(*meant)).order_by(users.c.id)


def owns_email() -> ColumnElement[bool]:
    """The row's address is its user's, who has logged in with it: Identity.owns_email of a stored user."""
    vouched_for = or_(users.c.email_verified, users.c.provider == BUILT_IN_PROVIDER)
    return and_(users.c.provider_id.is_not(None), users.c.last_login_at.is_not(None), vouched_for)


class _Match(IntEnum):
    """How a row is meant, the strongest first."""

    SAME_ID = 1
    INVITED = 2
    SAME_ADDRESS = 3
    ADDRESS_OF_ANOTHER_PROVIDER = 4
    INVITED_ELSEWHERE = 5


def _match(row: Row[Any], identity: Identity) -> _Match | None:
    same_provider = row.provider == identity.provider
    if same_provider and row.provider_id == identity.provider_id:
        return _Match.SAME_ID
    if row.provider_id is None:
        if same_provider and (identity.owns_email or row.email == identity.provider_id.lower()):
            return _Match.INVITED
        return _Match.INVITED_ELSEWHERE if identity.email_verified else None
    if not row.owns_email:
        return None
    return _Match.SAME_ADDRESS if same_provider else _Match.ADDRESS_OF_ANOTHER_PROVIDER


def _choose(rows: Sequence[Row[Any]], identity: Identity) -> Row[Any] | None:
    matches = [(match, row) for row in rows if (match := _match(row, identity)) is not None]
    if not matches:
        return None
    match, row = min(matches, key=lambda each: each[0])
    is_taken = match == _Match.SAME_ADDRESS and not identity.email_verified
    if is_taken or match == _Match.ADDRESS_OF_ANOTHER_PROVIDER:
        raise conflict("The e-mail address belongs to another account.", "account_conflict")
    return row


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


def any_of_provider(connection: Connection, provider: str) -> bool:
    """Whether anybody of a provider is known."""
    return connection.scalar(select(users.c.id).where(users.c.provider == provider).limit(1)) is not None
