"""The URL at which clients see this server, for the links that services hand out."""

import re
from functools import lru_cache
from urllib.parse import urlsplit

from gateway.exchange import Exchange
from gateway.trusted_proxies import TrustedProxies
from services.shared.errors import invalid_request

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_SCHEMES = ("http", "https")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class PublicUrl:
    """Scheme, host and path prefix without a slash at the end.

    The configured URL wins. Else they come from `X-Forwarded-Proto`, `-Host` and `-Prefix` of a
    trusted proxy, or its Host header. Other clients say what they like: for them it is `fallback`,
    and only without one the connection and its Host header (RFC 9110 section 7.2).
    """

    def __init__(self, configured: str, proxies: TrustedProxies, *, tls: bool, fallback: str = "") -> None:
        self._configured = configured.rstrip("/")
        self._fallback = fallback.rstrip("/")
        self._proxies = proxies
        self._tls = tls
        self._join = lru_cache(maxsize=256)(_join)
        self._origin = lru_cache(maxsize=256)(_origin)

    def of(self, exchange: Exchange) -> str:
        """The base URL for the answer to this request. Raises ApiError 400 for a Host that cannot be one."""
        if self._configured:
            return self._configured
        is_trusted = self._proxies.trusts(exchange)
        if self._fallback and not is_trusted:
            return self._fallback
        scheme = "https" if self._tls else exchange.scope.get("scheme", "http")
        host = exchange.header(b"host")
        prefix = ""
        if is_trusted:
            scheme = _last(exchange, b"x-forwarded-proto").lower() or scheme
            host = _last(exchange, b"x-forwarded-host") or host
            prefix = _last(exchange, b"x-forwarded-prefix").rstrip("/")
        if not host:
            server = exchange.scope.get("server") or ("localhost", None)
            host = server[0] if server[1] is None else f"{server[0]}:{server[1]}"
        return self._join(scheme, host, prefix)

    def origin_of(self, exchange: Exchange) -> str:
        """The origin of that URL as browsers write it (RFC 6454 section 6.2). Raises ApiError 400 like `of`."""
        return self._origin(self.of(exchange))


def _last(exchange: Exchange, name: bytes) -> str:
    """What the nearest proxy said: each one appends."""
    return (exchange.header(name) or "").rpartition(",")[2].strip()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{host.removesuffix(_DEFAULT_PORTS.get(parts.scheme, ''))}"


def _join(scheme: str, host: str, prefix: str) -> str:
    if not _HOST.fullmatch(host):
        raise invalid_request("The Host header is not a host.")
    if scheme not in _SCHEMES or not _PREFIX.fullmatch(prefix):
        raise invalid_request("The forwarded headers of the proxy are malformed.")
    return f"{scheme}://{host}{prefix}"
