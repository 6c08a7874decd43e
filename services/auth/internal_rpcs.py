"""The RPCs that other processes of the installation call; not reachable over HTTP."""

import logging
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from services.auth.directory import principals
from services.auth.sessions import revocations
from services.auth.sessions.login_sessions import groups_of_session
from services.auth.tokens.signing_keys import SigningKeys
from services.shared.database import Database
from services.shared.errors import invalid_id, invalid_input, unauthorized
from services.shared.principal import ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID, Call
from tmi.auth.v1.directory_pb2 import (
    ListRevocationsRequest,
    ListRevocationsResponse,
    ListSigningKeysRequest,
    ListSigningKeysResponse,
    ResolvePrincipalsRequest,
    ResolvePrincipalsResponse,
    ResolveSessionRequest,
    ResolveSessionResponse,
    SigningKey,
)

logger = logging.getLogger(__name__)

MAX_QUERIES = 1000
MAX_GROUPS = 2000
"""Of one person: what the metadata of a call holds beside everything else."""


class Directory:
    """Handlers of tmi.auth.v1.Directory."""

    def __init__(self, database: Database, keys: SigningKeys, issuer: str, now: Callable[[], datetime]) -> None:
        self._database = database
        self._keys = keys
        self._issuer = issuer
        self._now = now

    def list_signing_keys(self, _request: ListSigningKeysRequest, _call: Call) -> ListSigningKeysResponse:
        """The keys a valid token may be signed with, the one that signs now first."""
        keys = [
            SigningKey(kid=key.kid, algorithm=key.algorithm, verification_key=key.verification_material)
            for key in self._keys.published()
        ]
        return ListSigningKeysResponse(keys=keys, issuer=self._issuer, audience=self._issuer)

    def list_revocations(self, _request: ListRevocationsRequest, _call: Call) -> ListRevocationsResponse:
        """The revocations in force."""
        found = self._database.read(lambda connection: revocations.in_force(connection, self._now()))
        return ListRevocationsResponse(revocations=found)

    def resolve_session(self, request: ResolveSessionRequest, _call: Call) -> ResolveSessionResponse:
        """What the session confers now. 401 when it is not a live session of the user, 400 for malformed ids."""
        session_id, user_id = _uuid("session_id", request.session_id), _uuid("user_id", request.user_id)
        memberships = self._database.read(
            lambda connection: groups_of_session(connection, session_id, user_id, self._now())
        )
        if memberships is None:
            raise unauthorized()
        ids = {group.id for group in memberships}
        if len(ids) > MAX_GROUPS:
            logger.error("not all groups of a person count", extra={"user_id": user_id, "groups": len(ids)})
        return ResolveSessionResponse(
            # The built-in ones, whose ids are the lowest, are among those that count.
            group_ids=[UUID(identifier).bytes for identifier in sorted(ids)[:MAX_GROUPS]],
            is_administrator=ADMINISTRATORS_GROUP_ID in ids,
            is_security_reviewer=SECURITY_REVIEWERS_GROUP_ID in ids,
        )

    def resolve_principals(self, request: ResolvePrincipalsRequest, _call: Call) -> ResolvePrincipalsResponse:
        """A record for every query, in order. 400 for more than MAX_QUERIES."""
        if len(request.queries) > MAX_QUERIES:
            raise invalid_input(f"At most {MAX_QUERIES} principals can be resolved at once.")
        return ResolvePrincipalsResponse(records=principals.resolve(self._database, request.queries, self._now()))


def _uuid(name: str, text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise invalid_id(f"{name} is not a UUID.") from error
