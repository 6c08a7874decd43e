"""A provider of plain OAuth 2, such as GitHub: who logged in is what its API says with the access token."""

from typing import Any

from services.auth.providers.claims import identity_of
from services.auth.providers.code_exchange import CodeExchange
from services.auth.providers.configuration import ProviderConfiguration
from services.auth.providers.identity import Identity
from services.auth.providers.provider import UpstreamRequest
from services.auth.providers.upstream_http import Upstream


class OAuth2Provider:
    """Endpoints and claims are configured, for there is nothing to discover them from."""

    def __init__(self, configuration: ProviderConfiguration, upstream: Upstream, callback_url: str) -> None:
        self.configuration = configuration
        self._upstream = upstream
        self._exchange = CodeExchange(configuration, upstream, callback_url)

    def authorization_url(self, request: UpstreamRequest) -> str:
        """RFC 6749 section 4.1.1."""
        return self._exchange.authorization_url(_url(self.configuration.authorization_url), request)

    def check_response(self, issuer: str) -> None:
        """It has no issuer to compare with: the state alone says whose the response is."""

    def identify(self, code: str, request: UpstreamRequest) -> Identity:
        """Two or three calls, none of which is repeated."""
        configuration = self.configuration
        method = configuration.token_endpoint_auth_method or "client_secret_post"
        access_token = self._exchange.tokens(_url(configuration.token_url), code, request, method)["access_token"]
        claims = self._upstream.get_object(_url(configuration.userinfo_url), access_token)
        names = configuration.userinfo_claims
        if names.name_claim == "name" and not claims.get("name"):
            claims["name"] = claims.get("login")
        if configuration.emails_url:
            address = _verified_primary(self._upstream.get_json(configuration.emails_url, access_token))
            claims |= {names.email_claim: address, names.email_verified_claim: address is not None}
        return identity_of(configuration, claims)


def _verified_primary(addresses: Any) -> str | None:
    """The address marked `primary` of GitHub's list, if it is `verified` too."""
    for entry in addresses if isinstance(addresses, list) else ():
        if isinstance(entry, dict) and entry.get("primary") is True and entry.get("verified") is True:
            address = entry.get("email")
            return address if isinstance(address, str) else None
    return None


def _url(url: str | None) -> str:
    assert url is not None  # ProviderConfiguration has them when there is no issuer
    return url
