"""Who becomes an administrator without another administrator's doing.

Configured: the user named by TMI_ADMIN_PROVIDER with _PROVIDER_ID or _EMAIL, at start-up when
already known, otherwise at login. Not configured, in a dev or test build: the first user to log in.
"""

from datetime import datetime

from sqlalchemy import Connection, and_, select

from services.auth.directory.groups import add_member, promote_first_user
from services.auth.directory.tables import users
from services.auth.directory.users import User
from services.auth.providers.identity import Identity
from services.shared import sql_dialect
from services.shared.principal import ADMINISTRATORS_GROUP_ID
from services.shared.settings import Settings
from services.shared.uuids import uuid4


class FirstAdministrator:
    """Applies the rules of this installation's configuration."""

    def __init__(self, settings: Settings) -> None:
        self._provider = settings.admin_provider
        self._provider_id = settings.admin_provider_id
        self._email = settings.admin_email.strip().lower()
        self._configured = bool(self._provider and (self._provider_id or self._email))
        self._promote_first = not self._configured and settings.build_mode in ("dev", "test")

    def at_start(self, connection: Connection, now: datetime) -> None:
        """Makes the configured administrator a member, creating the row when its identity is complete."""
        if not self._configured:
            return
        if self._provider_id and self._email:
            connection.execute(
                sql_dialect.insert(connection, users)
                .values(
                    id=uuid4(),
                    provider=self._provider,
                    provider_id=self._provider_id,
                    email=self._email,
                    display_name=self._email.partition("@")[0],
                    email_verified=False,
                    created_at=now,
                )
                .on_conflict_do_nothing()
            )
        if self._provider_id:
            condition = users.c.provider_id == self._provider_id
        else:
            # Only somebody who has logged in with a verified address has shown that it is theirs.
            condition = and_(users.c.email == self._email, users.c.email_verified, users.c.last_login_at.is_not(None))
        for user_id in connection.scalars(select(users.c.id).where(users.c.provider == self._provider, condition)):
            add_member(connection, [ADMINISTRATORS_GROUP_ID], user_id, now)

    def at_login(self, connection: Connection, user: User, identity: Identity, now: datetime) -> None:
        """Promotes the user who logs in if the rules say so."""
        if self._promote_first:
            promote_first_user(connection, user.id, now)
        elif self._configured and self._is_configured(identity):
            add_member(connection, [ADMINISTRATORS_GROUP_ID], user.id, now)

    def _is_configured(self, identity: Identity) -> bool:
        if identity.provider != self._provider:
            return False
        if self._provider_id:
            return identity.provider_id == self._provider_id
        return identity.owns_email and identity.email == self._email
