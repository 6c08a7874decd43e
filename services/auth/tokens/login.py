"""Logging in, refreshing, logging out: each one transaction, then the announcement of what it revoked."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from services.auth.directory import groups, users
from services.auth.directory.administrators import FirstAdministrator
from services.auth.directory.users import User
from services.auth.providers.identity import Identity
from services.auth.sessions import revocations
from services.auth.sessions.login_sessions import LoginSession, LoginSessions
from services.auth.sessions.revocations import Announcer
from services.auth.tokens.access_tokens import AccessTokens
from services.shared.database import Database
from services.shared.jwt import CLOCK_SKEW_SECONDS, InvalidToken
from services.shared.settings import Settings
from tmi.auth.v1.directory_pb2 import Revocation, RevocationKind
from tmi.principal.v1.principal_pb2 import Principal

logger = logging.getLogger(__name__)


class InvalidGrant(Exception):
    """The refresh token is unknown, expired, replaced before or of an ended session."""


class InvalidCaller(Exception):
    """The presented access token is not valid or was revoked."""


@dataclass(frozen=True)
class Tokens:
    """What a login or refresh hands to the client. expires_in: seconds the access token is valid."""

    access_token: str
    refresh_token: str
    expires_in: int
    session_id: str


class Logins:
    """The life of login sessions."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        access_tokens: AccessTokens,
        announcer: Announcer,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._access_tokens = access_tokens
        self._announcer = announcer
        self._now = now
        self._sessions = LoginSessions(settings)
        self._first_administrator = FirstAdministrator(settings)

    def check(self, identity: Identity) -> None:
        """Raises ApiError 409 if this identity could not log in now. Changes nothing."""
        self._database.read(lambda connection: users.check_login(connection, identity))

    def log_in(self, identity: Identity) -> Tokens:
        """Opens a session for a verified identity. Raises ApiError 403 or 409 (see `users`)."""

        def work(connection: Connection) -> _Grant:
            now = self._now()
            user = users.record_login(connection, identity, now)
            self._first_administrator.at_login(connection, user, identity, now)
            session = self._sessions.start(connection, user, identity.groups, now)
            return self._grant(
                connection, user, session, self._sessions.issue_refresh_token(connection, session, now), now
            )

        try:
            grant = self._database.write(work)
        except IntegrityError:
            # Another first login of the same identity committed in between; its row is there now.
            grant = self._database.write(work)
        logger.info(
            "logged in",
            extra={"user_id": grant.user.id, "provider": identity.provider, "session_id": grant.session.id},
        )
        return self._tokens(grant)

    def refresh(self, refresh_token: str) -> Tokens:
        """The session's current refresh token, replaced if it is time to, and a new access token.

        Roles and groups are those of now. Raises InvalidGrant.
        """

        def work(connection: Connection) -> _Grant | Revocation | None:
            now = self._now()
            redeemed = self._sessions.redeem(connection, refresh_token, now)
            if isinstance(redeemed, tuple):
                session, user, current = redeemed
                return self._grant(connection, user, session, current, now)
            return redeemed

        outcome = self._database.write(work)
        if isinstance(outcome, _Grant):
            return self._tokens(outcome)
        if outcome is not None:
            logger.warning("replaced refresh token used, session ended", extra={"session_id": outcome.id})
            self._announcer.announce(outcome)
        raise InvalidGrant

    def log_out(self, caller: Principal) -> None:
        """Ends the caller's session: its access tokens, its refresh token, its sockets."""
        self._revoke(lambda connection: self._sessions.end(connection, caller.session_id, caller.user_id, self._now()))

    def end_session(self, session_id: str) -> None:
        """Ends a session whose authorization code came back a second time (RFC 6749 section 4.1.2)."""
        self._revoke(lambda connection: self._sessions.end_by_id(connection, session_id, self._now()))

    def authenticate(self, access_token: str) -> str:
        """The internal user id behind an access token. Raises InvalidCaller."""
        return str(self.live_claims(access_token)["tmi_user_id"])

    def live_claims(self, access_token: str) -> Mapping[str, Any]:
        """The claims of an access token that is valid and was not revoked. Raises InvalidCaller."""
        try:
            claims = self._access_tokens.verify(access_token)
        except InvalidToken as error:
            raise InvalidCaller from error
        if self._database.read(lambda connection: revocations.is_revoked(connection, claims)):
            raise InvalidCaller
        return claims

    def revoke_token(self, token: str, user_id: str) -> None:
        """Revokes an access or refresh token of that user; any other token is left alone (RFC 7009)."""
        try:
            claims = self._access_tokens.verify(token)
        except InvalidToken:
            self._revoke(
                lambda connection: self._sessions.end_of_refresh_token(connection, token, user_id, self._now())
            )
            return
        if claims["tmi_user_id"] == user_id:
            expires_at = datetime.fromtimestamp(claims["exp"] + CLOCK_SKEW_SECONDS, UTC)
            kind = RevocationKind.REVOCATION_KIND_TOKEN
            self._revoke(lambda connection: revocations.record(connection, kind, claims["jti"], expires_at))

    def _revoke(self, work: Callable[[Connection], Revocation | None]) -> None:
        revocation = self._database.write(work)
        if revocation is not None:
            self._announcer.announce(revocation)

    def _grant(
        self, connection: Connection, user: User, session: LoginSession, refresh_token: str, now: datetime
    ) -> "_Grant":
        memberships = groups.effective_groups(connection, user.id, user.provider, session.provider_groups)
        return _Grant(user, session, memberships, refresh_token, now)

    def _tokens(self, grant: "_Grant") -> Tokens:
        access_token, expires_in = self._access_tokens.issue(
            grant.user, grant.session, grant.memberships, grant.granted_at
        )
        return Tokens(access_token, grant.refresh_token, expires_in, grant.session.id)


@dataclass(frozen=True)
class _Grant:
    """What a transaction decided; the access token is signed after it, while no lock is held."""

    user: User
    session: LoginSession
    memberships: list[groups.Group]
    refresh_token: str
    granted_at: datetime
