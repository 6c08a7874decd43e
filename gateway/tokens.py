"""Verifying access tokens: signature and claims once, revocation at every use."""

import base64
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

import orjson

from gateway.revocations import Revocations
from gateway.session_roles import SessionRoles
from gateway.signing_keys import SigningKeys
from services.shared import jwt
from services.shared.access_token import principal_of
from services.shared.errors import ApiError, unauthorized
from tmi.principal.v1.principal_pb2 import Principal

CACHED_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that was found valid, and whose it is. `principal` is what the token says, without groups and roles."""

    principal: Principal
    serialized_principal: bytes
    expires_at: int


class TokenVerifier:
    """Verifies tokens and remembers the result by the token's SHA-256 until it expires."""

    def __init__(self, keys: SigningKeys, revocations: Revocations, session_roles: SessionRoles) -> None:
        self._keys = keys
        self._revocations = revocations
        self._session_roles = session_roles
        self._verified: OrderedDict[bytes, VerifiedToken] = OrderedDict()
        self._generation = -1

    async def verify(self, token: str) -> VerifiedToken:
        """Raises ApiError 401 for a token that is not valid (any more), 503 when that cannot be told."""
        if self._generation != self._keys.generation:
            # A key may have been withdrawn: what it signed has to prove itself again.
            self._verified.clear()
            self._generation = self._keys.generation
        digest = hashlib.sha256(token.encode("latin-1")).digest()
        verified = self._verified.get(digest)
        if verified is None:
            verified = await self._verify_new(token)
            self._verified[digest] = verified
            if len(self._verified) > CACHED_TOKENS:
                self._verified.popitem(last=False)
        else:
            self._verified.move_to_end(digest)
            if verified.expires_at <= time.time():
                del self._verified[digest]
                raise invalid_token()
        self._revocations.require()
        if self._revocations.is_revoked(verified.principal):
            raise invalid_token()
        try:
            roles = await self._session_roles.of(verified.principal)
        except ApiError as error:
            raise invalid_token() if error.status == 401 else error from error
        return VerifiedToken(verified.principal, verified.serialized_principal + roles, verified.expires_at)

    def require(self) -> None:
        """Raises ApiError 503 as long as no token can be verified: this gateway is not ready then."""
        self._keys.require()
        self._revocations.require()

    async def _verify_new(self, token: str) -> VerifiedToken:
        if len(token) > jwt.MAX_TOKEN_BYTES:
            raise invalid_token()
        kid = _kid(token)
        if not await self._keys.learn(kid):
            self._keys.require()
            raise invalid_token()
        try:
            claims = jwt.verify(token, self._keys.keys, issuer=self._keys.issuer, audience=self._keys.audience)
            principal = principal_of(claims)
        except jwt.InvalidToken as error:
            raise invalid_token() from error
        return VerifiedToken(principal, principal.SerializeToString(), principal.expires_at)


def invalid_token() -> ApiError:
    """401 for a token that is malformed, forged, expired or revoked. RFC 6750 section 3.1."""
    error = unauthorized()
    error.headers["WWW-Authenticate"] = 'Bearer realm="tmi", error="invalid_token"'
    return error


def _kid(token: str) -> str:
    """`kid` of the header (RFC 7515 section 4.1.4). Raises ApiError 401."""
    encoded = token.partition(".")[0]
    try:
        header = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        kid = header["kid"]
    except (ValueError, KeyError, TypeError) as error:
        raise invalid_token() from error
    if not isinstance(kid, str):
        raise invalid_token()
    return kid
