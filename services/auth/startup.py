"""Settings that must not be wrong when the service starts. RFC 7518 section 3.2 for the HS256 key."""

import os
from urllib.parse import urlsplit

from services.auth.tokens.access_tokens import issuer_of
from services.shared.encryption import Encryption
from services.shared.redis_connection import normalise
from services.shared.settings import Settings
from services.shared.startup import CannotStart

_SECRET_BYTES = 32
_SECRET_DISTINCT = 10
_PLACEHOLDERS = ("secret", "change", "password", "example", "default", "your")
"""Words of the secrets in guides and sample files. A random secret holds none of them."""
_DEV_PROVIDER_ENABLED = "OAUTH_PROVIDERS_TMI_ENABLED"
_TRUE = ("1", "true", "yes", "on")


def check(settings: Settings) -> None:
    """Raises CannotStart for the first setting with which logins could not be safe."""
    if not settings.redis_url:
        raise CannotStart("TMI_REDIS_URL is not set: logins need Redis or Valkey.")
    try:
        issuer_of(settings)
    except ValueError as error:
        raise CannotStart(str(error)) from error
    if settings.jwt_signing_method == "HS256":
        _check_secret(settings)
    for name in ("jwt_expiration_seconds", "refresh_token_days", "session_lifetime_days"):
        if getattr(settings, name) <= 0:
            raise CannotStart(f"TMI_{name.upper()} must be greater than 0.")
    if settings.build_mode == "production":
        _check_production(settings)


def _check_production(settings: Settings) -> None:
    Encryption.of(settings)
    if os.environ.get(_DEV_PROVIDER_ENABLED, "").strip().lower() in _TRUE:
        raise CannotStart(
            f"{_DEV_PROVIDER_ENABLED} is set: with the provider tmi anybody logs in as anybody. Unset it, or set"
            " TMI_BUILD_MODE=dev for development."
        )
    for entry in settings.oauth_client_callback_allowlist:
        if entry.endswith("*") and not urlsplit(entry[:-1]).path:
            raise CannotStart(
                f"TMI_OAUTH_CLIENT_CALLBACK_ALLOWLIST may not hold {entry!r}: before the * there must be a whole"
                " origin and a slash, or a login could return to any site."
            )
    secure = settings.cookie_secure or settings.server_tls_enabled
    if settings.cookie_enabled and not secure:
        raise CannotStart(
            "Production needs cookies that travel over TLS only: set TMI_COOKIE_SECURE=true when a proxy"
            " terminates TLS, TMI_SERVER_TLS_ENABLED=true when this server does, or TMI_COOKIE_ENABLED=false."
        )


def _check_secret(settings: Settings) -> None:
    secret = settings.jwt_secret
    is_placeholder = any(word in secret.lower() for word in _PLACEHOLDERS)
    if len(secret.encode()) < _SECRET_BYTES or len(set(secret)) < _SECRET_DISTINCT or is_placeholder:
        raise CannotStart(
            f"TMI_JWT_SECRET is too weak for HS256: use at least {_SECRET_BYTES} random bytes"
            " (openssl rand -base64 48), or TMI_JWT_SIGNING_METHOD=ES256."
        )
    if secret.lstrip().startswith("-----BEGIN"):
        raise CannotStart("TMI_JWT_SECRET must be a random secret for HS256, not a PEM key.")
    others = {urlsplit(normalise(settings.redis_url)).password, urlsplit(settings.database_url).password}
    if secret in others:
        raise CannotStart("TMI_JWT_SECRET must not be the password of a store.")
