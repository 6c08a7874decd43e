"""The authorization code grant as a client: the redirect to the provider, and the tokens for its code.

RFC 6749 section 4.1, with PKCE (RFC 7636). The protocol is Authlib's; the HTTP is `upstream_http`.
"""

from typing import Any, Literal
from urllib.parse import quote_plus

import httpx
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.client import OAuth2Client

from services.auth.providers.configuration import ProviderConfiguration
from services.auth.providers.provider import UpstreamRequest, invalid_answer, refused
from services.auth.providers.upstream_http import Upstream, failures, where

AuthMethod = Literal["client_secret_basic", "client_secret_post"]


class CodeExchange:
    """One provider's. callback_url: our own, the same for every provider."""

    def __init__(self, configuration: ProviderConfiguration, upstream: Upstream, callback_url: str) -> None:
        self._configuration = configuration
        self._upstream = upstream
        self._callback_url = callback_url

    def authorization_url(self, endpoint: str, request: UpstreamRequest, **parameters: str) -> str:
        """Where the browser is sent."""
        url, _ = self._client().create_authorization_url(
            endpoint,
            state=request.state,
            code_verifier=request.code_verifier,
            **parameters,
            **self._configuration.additional_params,
        )
        return str(url)

    def tokens(self, endpoint: str, code: str, request: UpstreamRequest, method: AuthMethod) -> dict[str, Any]:
        """The answer of the token endpoint, with an `access_token` in it. Raises ProviderFailure."""
        client_id = self._configuration.client_id
        secret = self._configuration.client_secret.get_secret_value()
        body = {"code": code, "code_verifier": request.code_verifier}
        if method == "client_secret_post":
            auth, body = httpx.Auth(), {**body, "client_id": client_id, "client_secret": secret}
        else:
            auth = httpx.BasicAuth(quote_plus(client_id), quote_plus(secret))  # RFC 6749 section 2.3.1
        with failures(endpoint):
            try:
                tokens = self._client().fetch_token(endpoint, grant_type="authorization_code", auth=auth, **body)
            except OAuth2Error as error:
                raise refused(error.error) from error
        is_bearer = str(tokens.get("token_type", "bearer")).lower() == "bearer"
        if not is_bearer or not isinstance(tokens.get("access_token"), str):
            raise invalid_answer(f"{where(endpoint)} gave no bearer token")
        return dict(tokens)

    def _client(self) -> OAuth2Client:
        """Of one exchange: it holds that one's tokens."""
        return OAuth2Client(
            self._upstream.session,
            self._configuration.client_id,
            scope=" ".join(self._configuration.scopes) or None,
            redirect_uri=self._callback_url,
            code_challenge_method="S256",
        )
