"""An OpenID provider, known by its issuer alone."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from services.auth.providers import id_token
from services.auth.providers.claims import identity_of
from services.auth.providers.code_exchange import CodeExchange
from services.auth.providers.configuration import TENANT, ProviderConfiguration
from services.auth.providers.identity import Identity
from services.auth.providers.openid_metadata import Metadata, SigningKey, fetch_keys, fetch_metadata
from services.auth.providers.provider import UpstreamRequest, invalid_answer
from services.auth.providers.remembered import Remembered
from services.auth.providers.upstream_http import Upstream

_SCOPES = ["openid", "profile", "email"]


class OpenIdProvider:
    """OpenID Connect Core, authorization code flow. Its metadata and keys are fetched when first needed."""

    def __init__(
        self, configuration: ProviderConfiguration, upstream: Upstream, callback_url: str, now: Callable[[], datetime]
    ) -> None:
        self.configuration = configuration.model_copy(update={"scopes": configuration.scopes or _SCOPES})
        self._upstream = upstream
        self._exchange = CodeExchange(self.configuration, upstream, callback_url)
        self._now = now

        def clock() -> float:
            return now().timestamp()

        self._metadata: Remembered[Metadata] = Remembered(
            f"metadata of {configuration.id}", lambda: fetch_metadata(upstream, configuration), clock
        )
        self._keys: Remembered[Sequence[SigningKey]] = Remembered(
            f"keys of {configuration.id}", lambda: fetch_keys(upstream, self._metadata.get().jwks_uri), clock
        )

    def authorization_url(self, request: UpstreamRequest) -> str:
        """Section 3.1.2.1."""
        return self._exchange.authorization_url(
            self._metadata.get().authorization_endpoint, request, nonce=request.nonce
        )

    def check_response(self, issuer: str) -> None:
        """RFC 9207: an announced issuer must be there, and one that is there must be right.

        With tenants the issuer of the response names one that is known from the ID token only.
        """
        metadata = self._metadata.get()
        if not issuer and metadata.announces_issuer:
            raise invalid_answer("the authorization response does not name its issuer, as the provider had announced")
        prefix, template, suffix = metadata.issuer.partition(TENANT)
        if issuer and not (issuer.startswith(prefix) and issuer.endswith(suffix) if template else issuer == prefix):
            raise invalid_answer("the authorization response is of another issuer")

    def identify(self, code: str, request: UpstreamRequest) -> Identity:
        """Sections 3.1.3 and 5.3."""
        metadata = self._metadata.get()
        tokens = self._exchange.tokens(metadata.token_endpoint, code, request, metadata.token_endpoint_auth_method)
        access_token = tokens["access_token"]
        claims = id_token.verify(
            tokens.get("id_token"), access_token, request, self.configuration, metadata, self._keys, self._now()
        )
        if metadata.userinfo_endpoint and not self._wanted() <= claims.keys():
            claims = self._completed(claims, self._upstream.get_object(metadata.userinfo_endpoint, access_token))
        return identity_of(self.configuration, claims)

    def _wanted(self) -> set[str]:
        names = self.configuration.userinfo_claims
        return {names.email_claim, names.name_claim, names.groups_claim} - {""}

    def _completed(self, claims: dict[str, Any], userinfo: dict[str, Any]) -> dict[str, Any]:
        """The claims of the ID token, and what only the UserInfo endpoint says (section 5.3.2)."""
        if userinfo.get("sub") != claims["sub"]:
            raise invalid_answer("the UserInfo endpoint speaks of somebody else than the ID token")
        names = self.configuration.userinfo_claims
        if names.email_claim in claims and userinfo.get(names.email_claim) != claims[names.email_claim]:
            userinfo = {name: value for name, value in userinfo.items() if name != names.email_verified_claim}
        return {**userinfo, **claims}
