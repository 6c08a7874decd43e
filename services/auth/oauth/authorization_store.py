"""Authorization requests and codes between two HTTP requests of one login, in Redis.

Shared by every replica, so any of them may finish a login. Both live ten minutes and are read by
deleting them (RFC 6749 section 4.1.2: a code is used once). A redeemed code leaves the session it
opened behind, so that its second use can end that session. Keys hold digests of codes, not codes.
"""

import hashlib
import logging
from dataclasses import dataclass

import orjson
import redis
from pydantic import TypeAdapter

from services.auth.providers.identity import Identity
from services.auth.providers.provider import UpstreamRequest

logger = logging.getLogger(__name__)

LIFETIME_SECONDS = 600


@dataclass(frozen=True)
class AuthorizationRequest:
    """What the client asked for; a code is bound to all of it.

    state: the client's, which it gets back. upstream: what the provider was asked with. identity: who the
    provider says has logged in, once it has. Both are None for the dev provider, whose codes say it themselves.
    """

    provider: str
    client_callback: str
    code_challenge: str
    state: str = ""
    upstream: UpstreamRequest | None = None
    identity: Identity | None = None


_REQUEST = TypeAdapter(AuthorizationRequest)


class AuthorizationStore:
    """Raises redis.RedisError when Redis cannot be reached; no login can start or finish then."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def remember_state(self, state: str, request: AuthorizationRequest) -> None:
        """Keeps a request until its `state` returns. A repeated state replaces the request."""
        self._redis.set(_state_key(state), _encode(request), ex=LIFETIME_SECONDS)

    def take_state(self, state: str) -> AuthorizationRequest | None:
        """The request of a state that was not used yet."""
        return _decode(self._redis.getdel(_state_key(state)))

    def remember_code(self, code: str, request: AuthorizationRequest) -> bool:
        """Makes a code redeemable. False when the same code is already waiting."""
        return bool(self._redis.set(_code_key(code), _encode(request), ex=LIFETIME_SECONDS, nx=True))

    def take_code(self, code: str) -> AuthorizationRequest | None:
        """The request a code was issued for, once."""
        return _decode(self._redis.getdel(_code_key(code)))

    def remember_redeemed(self, code: str, session_id: str) -> None:
        """Notes which login session a code opened. The login stands even when this is lost."""
        try:
            self._redis.set(_redeemed_key(code), session_id, ex=LIFETIME_SECONDS)
        except redis.RedisError as error:
            logger.warning("redeemed code not noted", extra={"error": type(error).__name__})

    def session_opened_by(self, code: str) -> str | None:
        """The login session that an already redeemed code opened."""
        value = self._redis.get(_redeemed_key(code))
        return value.decode() if isinstance(value, bytes) else None


def _state_key(state: str) -> str:
    return f"tmi:auth:state:{_digest(state)}"


def _code_key(code: str) -> str:
    return f"tmi:auth:code:{_digest(code)}"


def _redeemed_key(code: str) -> str:
    return f"tmi:auth:redeemed:{_digest(code)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _encode(request: AuthorizationRequest) -> bytes:
    return orjson.dumps(request)


def _decode(value: object) -> AuthorizationRequest | None:
    return _REQUEST.validate_json(value) if isinstance(value, bytes) else None
