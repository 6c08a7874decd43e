"""Login sessions and their refresh tokens, as rows.

A refresh token is 256 bits of which only the SHA-256 is stored. Using it replaces it by a successor,
and a token that was replaced ends the session with every token of it when it comes back: two hold
what one was given (RFC 9700 section 4.14.2).

Two tabs that refresh at once, a client that refreshes for every message and one whose answer was lost
are no theft. So a session replaces its token at most once in ROTATION_INTERVAL, and meanwhile the
token and the one before it are both answered with the token, in any order and by any replica. The
successor of a token is derived from it and from a random salt that is stored beside its hash: whoever
presents the predecessor can be given the successor again, though neither is stored, and neither its
holder nor a reader of the table can derive it alone.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from services.auth.directory.groups import Group, effective_groups
from services.auth.directory.tables import users
from services.auth.directory.users import User
from services.auth.sessions import revocations
from services.auth.sessions.tables import login_sessions, refresh_tokens
from services.shared.jwt import CLOCK_SKEW_SECONDS
from services.shared.settings import Settings
from services.shared.uuids import uuid4
from tmi.auth.v1.directory_pb2 import Revocation, RevocationKind

ROTATION_INTERVAL = timedelta(seconds=60)
"""How long a refresh token stays the current one at least, and the one before it is still taken for it."""

_SECRET_BYTES = 32


@dataclass(frozen=True)
class LoginSession:
    """One interactive login. provider_groups: names the identity provider reported then."""

    id: str
    auth_time: datetime
    expires_at: datetime
    provider_groups: Sequence[str]


class LoginSessions:
    """Statements on sessions; the caller opens the transaction."""

    def __init__(self, settings: Settings) -> None:
        self._session_lifetime = timedelta(days=settings.session_lifetime_days)
        self._refresh_lifetime = timedelta(days=settings.refresh_token_days)
        self._access_lifetime = timedelta(seconds=settings.jwt_expiration_seconds + CLOCK_SKEW_SECONDS)

    def start(self, connection: Connection, user: User, provider_groups: Sequence[str], now: datetime) -> LoginSession:
        """A new session, which no refresh extends beyond its absolute end."""
        session = LoginSession(uuid4(), now, now + self._session_lifetime, list(provider_groups))
        connection.execute(
            insert(login_sessions).values(
                id=session.id,
                user_id=user.id,
                auth_time=session.auth_time,
                created_at=now,
                expires_at=session.expires_at,
                provider_groups=session.provider_groups,
            )
        )
        return session

    def issue_refresh_token(self, connection: Connection, session: LoginSession, now: datetime) -> str:
        """The first refresh token of the session."""
        token = secrets.token_urlsafe(_SECRET_BYTES)
        self._store(connection, session, token, now)
        return token

    def redeem(
        self, connection: Connection, token: str, now: datetime
    ) -> tuple[LoginSession, User, str] | Revocation | None:
        """The session, its user and its current refresh token for one that was presented.

        The session's revocation when the token was replaced before: the session is over then. None when
        the token is unknown or expired or its session has ended.
        """
        row = connection.execute(
            select(
                users,
                login_sessions.c.id.label("session_id"),
                login_sessions.c.auth_time,
                login_sessions.c.expires_at,
                login_sessions.c.provider_groups,
                login_sessions.c.refreshed_at,
            )
            .join(login_sessions, login_sessions.c.user_id == users.c.id)
            .join(refresh_tokens, refresh_tokens.c.session_id == login_sessions.c.id)
            .where(refresh_tokens.c.token_hash == _hash(token), *_is_live(now))
            # One after the other, of all that refresh or end the session: a logout waits for this
            # transaction, so that what it issues is revoked by it.
            .with_for_update(of=login_sessions)
        ).one_or_none()
        if row is None:
            return None
        session = LoginSession(row.session_id, row.auth_time, row.expires_at, row.provider_groups)
        user = User(row.id, row.provider, row.provider_id, row.email, row.display_name, row.email_verified)
        # A statement of its own, because it must see what the one before it waited for.
        presented = connection.execute(select(refresh_tokens).where(refresh_tokens.c.token_hash == _hash(token))).one()
        lately = row.refreshed_at is not None and now < row.refreshed_at + ROTATION_INTERVAL
        if presented.used_at is None:
            if presented.expires_at <= now:
                return None
            return session, user, token if lately else self._replace(connection, session, token, now)
        if lately and presented.used_at == row.refreshed_at:
            return session, user, _successor(token, presented.successor_salt)
        return self.end_by_id(connection, session.id, now)

    def end(self, connection: Connection, session_id: str, user_id: str, now: datetime) -> Revocation | None:
        """Ends a user's session with all its tokens. None when there is no such live session."""
        return self._end(connection, now, login_sessions.c.id == session_id, login_sessions.c.user_id == user_id)

    def end_by_id(self, connection: Connection, session_id: str, now: datetime) -> Revocation | None:
        """Ends a session whoever's it is."""
        return self._end(connection, now, login_sessions.c.id == session_id)

    def end_of_refresh_token(
        self, connection: Connection, token: str, user_id: str, now: datetime
    ) -> Revocation | None:
        """Ends the session a refresh token belongs to, if that is the user's own."""
        owner = select(refresh_tokens.c.session_id).where(refresh_tokens.c.token_hash == _hash(token))
        return self._end(
            connection, now, login_sessions.c.id == owner.scalar_subquery(), login_sessions.c.user_id == user_id
        )

    def _replace(self, connection: Connection, session: LoginSession, token: str, now: datetime) -> str:
        salt = secrets.token_bytes(_SECRET_BYTES)
        successor = _successor(token, salt)
        connection.execute(
            update(refresh_tokens)
            .where(refresh_tokens.c.token_hash == _hash(token))
            .values(used_at=now, successor_salt=salt)
        )
        connection.execute(update(login_sessions).where(login_sessions.c.id == session.id).values(refreshed_at=now))
        self._store(connection, session, successor, now)
        return successor

    def _store(self, connection: Connection, session: LoginSession, token: str, now: datetime) -> None:
        connection.execute(
            insert(refresh_tokens).values(
                token_hash=_hash(token),
                session_id=session.id,
                issued_at=now,
                expires_at=min(now + self._refresh_lifetime, session.expires_at),
            )
        )

    def _end(self, connection: Connection, now: datetime, *conditions: ColumnElement[bool]) -> Revocation | None:
        session_id: Any = connection.scalar(
            update(login_sessions)
            .where(*conditions, *_is_live(now))
            .values(revoked_at=now)
            .returning(login_sessions.c.id)
        )
        if session_id is None:
            return None
        kind = RevocationKind.REVOCATION_KIND_SESSION
        return revocations.record(connection, kind, session_id, now + self._access_lifetime)


def groups_of_session(connection: Connection, session_id: str, user_id: str, now: datetime) -> list[Group] | None:
    """The groups that a user is in by a live session, None when the user has no such session."""
    row = connection.execute(
        select(users.c.provider, login_sessions.c.provider_groups)
        .join(login_sessions, login_sessions.c.user_id == users.c.id)
        .where(login_sessions.c.id == session_id, users.c.id == user_id, *_is_live(now))
    ).one_or_none()
    if row is None:
        return None
    return effective_groups(connection, user_id, row.provider, row.provider_groups)


def reported_groups(connection: Connection, session_id: str) -> list[str]:
    """Names of the groups that the identity provider reported when the session began."""
    return list(
        connection.scalar(select(login_sessions.c.provider_groups).where(login_sessions.c.id == session_id)) or ()
    )


def _is_live(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return login_sessions.c.revoked_at.is_(None), login_sessions.c.expires_at > now


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _successor(token: str, salt: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(salt, token.encode(), "sha256")).rstrip(b"=").decode()
