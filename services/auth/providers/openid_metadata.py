"""What an OpenID provider publishes: its metadata (OpenID Connect Discovery section 3) and its keys (RFC 7517)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from services.auth.providers.configuration import SHARED_TENANTS, TENANT, ProviderConfiguration, is_safe_url
from services.auth.providers.provider import invalid_answer
from services.auth.providers.upstream_http import Upstream

logger = logging.getLogger(__name__)

ALGORITHMS = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512", "Ed25519", "EdDSA")
"""Signatures with a public key. No `none`, and no HMAC: what is public must not be able to sign."""

_MOST_KEYS = 100


@dataclass(frozen=True)
class Metadata:
    """issuer: with `{tenantid}` in it, a template. algorithms: of ID tokens, as far as we accept them."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    jwks_uri: str
    algorithms: tuple[str, ...]
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"]
    announces_issuer: bool


@dataclass(frozen=True)
class SigningKey:
    """A public key. issuer: whose tokens alone it signs, where the provider says so; may be a template."""

    kid: str | None
    key: Key
    issuer: str


def expected_issuer(configuration: ProviderConfiguration) -> str:
    """The issuer that the metadata must name: the configured one, with its tenant put in if that is one tenant."""
    assert configuration.issuer is not None
    if configuration.tenant in SHARED_TENANTS:
        return configuration.issuer
    return configuration.issuer.replace(TENANT, configuration.tenant)


def fetch_metadata(upstream: Upstream, configuration: ProviderConfiguration) -> Metadata:
    """The provider's metadata, checked. Raises ProviderFailure."""
    assert configuration.issuer is not None
    base = configuration.issuer.replace(TENANT, configuration.tenant).rstrip("/")
    document = upstream.get_object(f"{base}/.well-known/openid-configuration")
    issuer = expected_issuer(configuration)
    if document.get("issuer") != issuer:
        raise invalid_answer(f"the metadata of {issuer} names another issuer")
    announced = _words(document, "id_token_signing_alg_values_supported") or ("RS256",)
    algorithms = tuple(name for name in ALGORITHMS if name in announced)
    if not algorithms:
        raise invalid_answer(f"{issuer} signs ID tokens in no way that is accepted here")
    methods = _words(document, "token_endpoint_auth_methods_supported")
    return Metadata(
        issuer,
        _endpoint(document, "authorization_endpoint", issuer),
        _endpoint(document, "token_endpoint", issuer),
        _endpoint(document, "userinfo_endpoint", issuer) if document.get("userinfo_endpoint") else "",
        _endpoint(document, "jwks_uri", issuer),
        algorithms,
        configuration.token_endpoint_auth_method
        or ("client_secret_post" if "client_secret_post" in methods else "client_secret_basic"),
        document.get("authorization_response_iss_parameter_supported") is True,
    )


def fetch_keys(upstream: Upstream, url: str) -> Sequence[SigningKey]:
    """The keys that may have signed an ID token; those of kinds we do not know are left out. Raises ProviderFailure."""
    keys = upstream.get_object(url).get("keys")
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise invalid_answer("the key set is not a list of keys")
    return [found for key in keys if (found := _signing_key(key)) is not None]


def _signing_key(value: Any) -> SigningKey | None:
    if not isinstance(value, dict) or value.get("use", "sig") != "sig" or value.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    # Entra's keys have members of its own, which a strict import would refuse.
    public = {name: value[name] for name in ("kty", "kid", "alg", "n", "e", "crv", "x", "y") if name in value}
    try:
        key = JWKRegistry.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        logger.warning("a key of an identity provider is not usable", extra={"error": type(error).__name__})
        return None
    assert isinstance(key, RSAKey | ECKey | OKPKey)
    kid, issuer = value.get("kid"), value.get("issuer")
    return SigningKey(kid if isinstance(kid, str) else None, key, issuer if isinstance(issuer, str) else "")


def _endpoint(document: dict[str, Any], name: str, issuer: str) -> str:
    """An issuer elsewhere must not lead us to a service of this machine."""
    url = document.get(name)
    if not isinstance(url, str) or not is_safe_url(url):
        raise invalid_answer(f"{name} in the metadata is no https URL")
    if url.startswith("http:") and not issuer.startswith("http:"):
        raise invalid_answer(f"{name} in the metadata is no https URL")
    return url


def _words(document: dict[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name)
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()
