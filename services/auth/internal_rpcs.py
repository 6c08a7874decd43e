"""The RPCs that other processes of the installation call; not reachable over HTTP."""

from collections.abc import Callable
from datetime import datetime

from services.auth.directory import principals
from services.auth.sessions import revocations
from services.auth.tokens.signing_keys import SigningKeys
from services.shared.database import Database
from services.shared.errors import invalid_input
from services.shared.principal import Call
from tmi.auth.v1.directory_pb2 import (
    ListRevocationsRequest,
    ListRevocationsResponse,
    ListSigningKeysRequest,
    ListSigningKeysResponse,
    ResolvePrincipalsRequest,
    ResolvePrincipalsResponse,
    SigningKey,
)

MAX_QUERIES = 1000


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

    def resolve_principals(self, request: ResolvePrincipalsRequest, _call: Call) -> ResolvePrincipalsResponse:
        """A record for every query, in order. 400 for more than MAX_QUERIES."""
        if len(request.queries) > MAX_QUERIES:
            raise invalid_input(f"At most {MAX_QUERIES} principals can be resolved at once.")
        return ResolvePrincipalsResponse(records=principals.resolve(self._database, request.queries, self._now()))
