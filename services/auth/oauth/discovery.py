"""What clients find out without a login: providers, keys and metadata.

RFC 8414, RFC 7517, RFC 9728 and OpenID Connect Discovery. The issuer and every address come from
the configuration, never from the request, so that a forged Host cannot poison a cache; only what
exists is advertised, so no ID token algorithms.
"""

from typing import Any

import orjson

from services.auth.oauth import pkce
from services.auth.providers import dev_provider
from services.auth.providers.registry import Providers
from services.auth.tokens import jwks
from services.auth.tokens.access_tokens import issuer_of
from services.auth.tokens.signing_keys import JWKS_MAX_AGE_SECONDS, SigningKeys
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.shared.settings import Settings
from tmi.auth.v1.oauth_pb2 import (
    GetAuthorizationServerMetadataRequest,
    GetJwksRequest,
    GetOpenIdConfigurationRequest,
    GetProtectedResourceMetadataRequest,
    ListProvidersRequest,
)

_SCOPES = ["openid", "profile", "email"]


class Discovery:
    """Handlers of the public documents."""

    def __init__(self, settings: Settings, providers: Providers, keys: SigningKeys) -> None:
        self._settings = settings
        self._providers = providers
        self._keys = keys
        self._issuer = issuer_of(settings)
        self._base = settings.base_url

    def list_providers(self, _request: ListProvidersRequest, call: Call) -> Reply:
        """The identity providers a login page can offer."""
        base = call.public_url or self._base
        offered = [
            (provider.id, provider.display_name, provider.icon, provider.client_id)
            for provider in self._providers.configured
        ]
        if dev_provider.exists(self._settings):
            offered.append((dev_provider.ID, dev_provider.NAME, dev_provider.ICON, dev_provider.CLIENT_ID))
        providers = [
            {
                "id": identifier,
                "name": name,
                "icon": icon,
                "auth_url": f"{base}/oauth2/authorize?idp={identifier}",
                "token_url": f"{base}/oauth2/token?idp={identifier}",
                "redirect_uri": self._settings.oauth_callback_url,
                "client_id": client_id,
            }
            for identifier, name, icon, client_id in offered
        ]
        return Reply(orjson.dumps({"providers": providers}))

    def jwks(self, _request: GetJwksRequest, _call: Call) -> Reply:
        """The public keys; a shared secret is never among them."""
        keys = [
            jwks.to_jwk(key.kid, key.algorithm, key.verification_material)
            for key in self._keys.published()
            if key.algorithm != "HS256"
        ]
        return _cacheable({"keys": keys})

    def openid_configuration(self, _request: GetOpenIdConfigurationRequest, _call: Call) -> Reply:
        """OpenID Connect Discovery section 3."""
        return _cacheable(
            {
                **self._authorization_server(),
                "userinfo_endpoint": f"{self._base}/oauth2/userinfo",
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [],
                "claims_supported": ["sub", "iss", "aud", "exp", "iat", "email", "email_verified", "name"],
            }
        )

    def authorization_server(self, _request: GetAuthorizationServerMetadataRequest, _call: Call) -> Reply:
        """RFC 8414 section 2."""
        return _cacheable(self._authorization_server())

    def protected_resource(self, _request: GetProtectedResourceMetadataRequest, _call: Call) -> Reply:
        """RFC 9728 section 2."""
        return _cacheable(
            {
                "resource": self._base,
                "scopes_supported": _SCOPES,
                "authorization_servers": [self._issuer],
                "jwks_uri": f"{self._base}/.well-known/jwks.json",
                "bearer_methods_supported": ["header"],
                "resource_name": "TMI (Threat Modeling Improved) API",
                "tls_client_certificate_bound_access_tokens": False,
            }
        )

    def _authorization_server(self) -> dict[str, Any]:
        return {
            "issuer": self._issuer,
            "authorization_endpoint": f"{self._base}/oauth2/authorize",
            "token_endpoint": f"{self._base}/oauth2/token",
            "introspection_endpoint": f"{self._base}/oauth2/introspect",
            "revocation_endpoint": f"{self._base}/oauth2/revoke",
            "jwks_uri": f"{self._base}/.well-known/jwks.json",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": [pkce.METHOD],
            "authorization_response_iss_parameter_supported": True,
            "scopes_supported": _SCOPES,
        }


def _cacheable(document: dict[str, Any]) -> Reply:
    return Reply(orjson.dumps(document), headers=[("cache-control", f"public, max-age={JWKS_MAX_AGE_SECONDS}")])
