"""Refuses requests that are too many. Which limits count an operation is its declared rate tier."""

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl

import orjson
from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.connection_bounds import network_of
from gateway.exchange import Exchange, exchange_of
from gateway.middleware.body import is_json
from gateway.rate_limits import Limit, RateLimiter, Standing
from services.shared.errors import ApiError
from services.shared.settings import Settings
from tmi.options.v1.options_pb2 import RateTier

REFUSED = Counter("tmi_rate_limit_refused_total", "Requests that were too many.", ["tier", "scope"])
REFRESH_COOKIE = "tmi_refresh_token"
_PREFIX = "tmi:limit:"
_SESSION_PARAMETERS = ("state", "code", "refresh_token")
_MOST_PARAMETERS = 200


class RateLimiting:
    """429 `rate_limit_exceeded` with `Retry-After`; every answer of a counted request has `X-RateLimit-*`.

    resource-operations count the user. public-discovery counts the client's address, an IPv6 one by its network.
    auth-flows count the login (by state, code or refresh token), whom it names, and the address; the tightest of
    them decides, and `X-RateLimit-Scope` names it. Loopback is no address of anybody: a proxy on this machine that
    nobody named as trusted would make all its users one.
    """

    def __init__(self, app: ASGIApp, limiter: RateLimiter, settings: Settings) -> None:
        self._app = app
        self._limiter = limiter
        self._user = settings.ratelimit_user_rpm
        self._public = settings.ratelimit_public_rpm
        self._auth = {
            "session": settings.ratelimit_auth_session_rpm,
            "user": settings.ratelimit_auth_user_rpm,
            "ip": settings.ratelimit_auth_ip_rpm,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        exchange = exchange_of(scope)
        if limits := self._limits_of(exchange):
            standing = await self._limiter.spend(limits)
            if standing is not None:
                exchange.limit_headers = _headers(standing)
                if standing.retry_after:
                    raise _refused(exchange, standing)
        await self._app(scope, receive, send)

    def _limits_of(self, exchange: Exchange) -> list[Limit]:
        if exchange.operation is None:
            return []
        match exchange.operation.rate_tier:
            case RateTier.RATE_TIER_RESOURCE_OPERATIONS if exchange.token is not None:
                user_id = exchange.token.principal.user_id
                return [Limit(f"{_PREFIX}user:{user_id}", "user", self._user)]
            case RateTier.RATE_TIER_PUBLIC_DISCOVERY:
                network = countable_network(exchange.client_ip)
                return [Limit(f"{_PREFIX}public:{network}", "ip", self._public)] if network else []
            case RateTier.RATE_TIER_AUTH_FLOWS:
                return [
                    Limit(f"{_PREFIX}auth:{scope}:{identity}", scope, self._auth[scope])
                    for scope, identity in _identities(exchange)
                ]
        return []


@lru_cache(maxsize=4096)
def countable_network(address: str) -> str:
    """What the client's address is counted as, empty when it is not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    actual = getattr(parsed, "ipv4_mapped", None) or parsed
    return "" if actual.is_loopback else network_of(address)


def _identities(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """By whom a login is counted: scope and identity. Secrets are hashed."""
    parameters = _parameters(exchange)
    session = next((parameters[name] for name in _SESSION_PARAMETERS if parameters.get(name)), None)
    session = session or exchange.cookie(REFRESH_COOKIE)
    if session:
        yield "session", _hashed(session)
    if login_hint := parameters.get("login_hint", "").strip().lower():
        yield "user", _hashed(login_hint)
    if network := countable_network(exchange.client_ip):
        yield "ip", network


def _parameters(exchange: Exchange) -> Mapping[str, str]:
    """The texts among the parameters of query and body. What is wrong with them is for the service to say."""
    try:
        parameters: dict[str, Any] = dict(_pairs(exchange.query_string))
        if is_json(exchange):
            body = orjson.loads(exchange.body)
            parameters |= body if isinstance(body, dict) else {}
        else:
            parameters |= _pairs(exchange.body)
    except ValueError:
        return {}
    return {name: value for name, value in parameters.items() if isinstance(value, str)}


def _pairs(text: bytes) -> list[tuple[str, str]]:
    return parse_qsl(text.decode("latin-1"), max_num_fields=_MOST_PARAMETERS)


def _hashed(identity: str) -> str:
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit", b"%d" % standing.limit.per_minute),
        (b"x-ratelimit-remaining", b"%d" % standing.remaining),
        (b"x-ratelimit-reset", b"%d" % standing.resets_at),
    ]


def _refused(exchange: Exchange, standing: Standing) -> ApiError:
    assert exchange.operation is not None
    tier = RateTier.Name(exchange.operation.rate_tier).removeprefix("RATE_TIER_").lower()
    REFUSED.labels(tier, standing.limit.scope).inc()
    return ApiError(
        429,
        "rate_limit_exceeded",
        f"Too many requests: at most {standing.limit.per_minute} in a minute. Try again in {standing.retry_after} s.",
        headers={"Retry-After": str(standing.retry_after), "X-RateLimit-Scope": standing.limit.scope},
    )
