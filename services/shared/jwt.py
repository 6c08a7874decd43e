"""Signing and verifying access tokens (RFC 7519) with python-jose's JWS layer (RFC 7515).

The algorithm belongs to the key, never to the token's header, and keys are PEM or a secret that is
not PEM: that closes algorithm confusion (CVE-2024-33663). Tokens have a size limit and JWE is not
imported (CVE-2024-33664).
"""

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from jose import jwk, jws
from jose.backends.base import Key
from jose.exceptions import JOSEError

MAX_TOKEN_BYTES = 8192
TOKEN_TYPE = "at+jwt"  # noqa: S105
"""`typ` of an access token, RFC 9068 section 2.1."""


class InvalidToken(Exception):
    """The token is malformed, forged, expired or meant for somebody else. Says no more on purpose."""


@dataclass(frozen=True)
class VerificationKey:
    """A key and the only algorithm it may be used with."""

    kid: str
    algorithm: str
    key: Key

    @classmethod
    def load(cls, kid: str, algorithm: str, material: bytes) -> "VerificationKey":
        """From a PEM public key (ES256, RS256) or a shared secret (HS256). Raises ValueError."""
        looks_like_pem = material.lstrip().startswith(b"-----BEGIN")
        if looks_like_pem == (algorithm == "HS256"):
            raise ValueError(f"key material does not fit {algorithm}")
        return cls(kid, algorithm, jwk.construct(material.decode(), algorithm))


def sign(claims: Mapping[str, Any], *, kid: str, algorithm: str, key: str) -> str:
    """A compact JWS over the claims with `typ` at+jwt and `kid`."""
    return jws.sign(dict(claims), key, headers={"typ": TOKEN_TYPE, "kid": kid}, algorithm=algorithm)


def verify(
    token: str,
    keys: Mapping[str, VerificationKey],
    *,
    issuer: str,
    audience: str,
    now: float | None = None,
) -> dict[str, Any]:
    """The claims of a valid access token. Raises InvalidToken.

    Checks size, `typ`, `kid`, algorithm, signature, `iss`, `aud`, `exp`, `nbf`, `iat` and `jti`
    (RFC 7519 section 4.1, RFC 9068 section 4).
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken
    try:
        header = jws.get_unverified_header(token)
        key = keys[header["kid"]]
        if header.get("typ") != TOKEN_TYPE or not hmac.compare_digest(str(header.get("alg")), key.algorithm):
            raise InvalidToken
        require_one_spelling(token)
        claims = orjson.loads(jws.verify(token, key.key, algorithms=[key.algorithm]))
    except (JOSEError, KeyError, TypeError, ValueError) as error:
        raise InvalidToken from error
    if not isinstance(claims, dict) or not _claims_hold(claims, issuer, audience, time.time() if now is None else now):
        raise InvalidToken
    return claims


def require_one_spelling(token: str) -> None:
    """Whether the signature of a compact JWS is the base64url of its bytes and nothing else. Raises ValueError.

    Decoders let a signature be spelled in several ways: base64url leaves bits of the last character unused
    (RFC 4648 section 3.5), and characters outside the alphabet are passed over.
    """
    signature = token.rpartition(".")[2].encode()
    if urlsafe_b64encode(urlsafe_b64decode(signature + b"=" * (-len(signature) % 4))).rstrip(b"=") != signature:
        raise ValueError("the signature is not base64url")


def _claims_hold(claims: Mapping[str, Any], issuer: str, audience: str, now: float) -> bool:
    audiences = claims.get("aud")
    if isinstance(audiences, str):
        audiences = [audiences]
    expires, issued, not_before = (_numeric_date(claims.get(name)) for name in ("exp", "iat", "nbf"))
    if expires is None or issued is None or not_before is None:
        return False
    return (
        claims.get("iss") == issuer
        and isinstance(audiences, list)
        and audience in audiences
        and all(isinstance(claims.get(name), str) and claims[name] for name in ("jti", "sub"))
        and expires > now
        and not_before <= now + CLOCK_SKEW_SECONDS
        and issued <= now + CLOCK_SKEW_SECONDS
    )


def _numeric_date(value: object) -> int | None:
    return value if type(value) is int and value in _NUMERIC_DATES else None


_NUMERIC_DATES = range(253_000_000_000)
"""Seconds since 1970 that a datetime can hold, with room for what is added to them."""

CLOCK_SKEW_SECONDS = 30
"""How far ahead the clock of the process that signed may be."""
