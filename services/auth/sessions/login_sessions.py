"""Login sessions and their refresh tokens, as rows.

A refresh token is 256 random bits of which only the SHA-256 is stored. It works once: redeeming is
one UPDATE, so of two requests with the same token one wins, and the other is a reuse that ends the
session with every token of it (RFC 9700 section 4.14.2). There is no grace period: a stolen token
must not work within one either.
"""

import hashlib
import secrets
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
        """A new refresh token of the session."""
        token = secrets.token_urlsafe(32)
        connection.execute(
            insert(refresh_tokens).values(
                token_hash=_hash(token),
                session_id=session.id,
                issued_at=now,
                expires_at=min(now + self._refresh_lifetime, session.expires_at),
            )
        )
        return token

    def redeem(
        self, connection: Connection, token: str, now: datetime
    ) -> tuple[LoginSession, User] | Revocation | None:
        """Uses a refresh token up.

        Returns its live session and user; the session's revocation when the token had been used
        before; None when it is unknown or expired or its session has ended.
        """
        session_id = connection.scalar(
            update(refresh_tokens)
            .where(
                refresh_tokens.c.token_hash == _hash(token),
                refresh_tokens.c.used_at.is_(None),
                refresh_tokens.c.expires_at > now,
            )
            .values(used_at=now)
            .returning(refresh_tokens.c.session_id)
        )
        if session_id is None:
            return self._end_if_reused(connection, token, now)
        row = connection.execute(
            select(
                users,
                login_sessions.c.id.label("session_id"),
                login_sessions.c.auth_time,
                login_sessions.c.expires_at,
                login_sessions.c.provider_groups,
            )
            .join(login_sessions, login_sessions.c.user_id == users.c.id)
            .where(login_sessions.c.id == session_id, *_is_live(now))
            # A logout waits for this transaction, so that what it issues is revoked by it.
            .with_for_update(of=login_sessions)
        ).one_or_none()
        if row is None:
            return None
        session = LoginSession(row.session_id, row.auth_time, row.expires_at, row.provider_groups)
        return session, User(row.id, row.provider, row.provider_id, row.email, row.display_name, row.email_verified)

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

    def _end_if_reused(self, connection: Connection, token: str, now: datetime) -> Revocation | None:
        session_id = connection.scalar(
            select(refresh_tokens.c.session_id).where(
                refresh_tokens.c.token_hash == _hash(token), refresh_tokens.c.used_at.is_not(None)
            )
        )
        return None if session_id is None else self.end_by_id(connection, session_id, now)

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
