"""POST /oauth2/token, /oauth2/refresh and /oauth2/revoke (RFC 6749 section 5, RFC 7009)."""

import hmac

import orjson

from services.auth.oauth import pkce
from services.auth.oauth.authorization_store import AuthorizationStore
from services.auth.oauth.bearer import bearer_token
from services.auth.oauth.bodies import RefreshBody, RevokeBody, TokenBody, parse
from services.auth.providers import dev_provider
from services.auth.providers.identity import Identity
from services.auth.providers.registry import Providers
from services.auth.tokens.cookies import Cookies
from services.auth.tokens.login import InvalidCaller, InvalidGrant, Logins, Tokens
from services.shared.errors import ApiError, invalid_request
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.shared.settings import Settings
from tmi.auth.v1.oauth_pb2 import RefreshRequest, RevokeRequest, TokenRequest


class TokenEndpoint:
    """Handlers of the three RPCs."""

    def __init__(
        self, settings: Settings, providers: Providers, store: AuthorizationStore, logins: Logins, cookies: Cookies
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._store = store
        self._logins = logins
        self._cookies = cookies

    def token(self, request: TokenRequest, _call: Call) -> Reply:
        """Tokens for an authorization code or a refresh token."""
        body = parse(TokenBody, request.body)
        if body.grant_type == "authorization_code":
            return self._granted(self._exchange(request.idp, body))
        if body.grant_type == "refresh_token":
            return self._refreshed(body.refresh_token or request.refresh_cookie)
        raise ApiError(400, "unsupported_grant_type", "grant_type must be authorization_code or refresh_token.")

    def refresh(self, request: RefreshRequest, _call: Call) -> Reply:
        """New tokens for the refresh token in the body, else in the cookie."""
        body = parse(RefreshBody, request.body)
        return self._refreshed(body.refresh_token or request.refresh_cookie)

    def revoke(self, request: RevokeRequest, _call: Call) -> Reply:
        """200 `{}` whether or not the token existed; only the caller's own tokens are revoked."""
        body = parse(RevokeBody, request.body)
        try:
            caller = self._logins.authenticate(bearer_token(request.authorization))
        except InvalidCaller as error:
            raise ApiError(
                401,
                "invalid_client",
                "A valid access token of the same user is needed to revoke a token.",
                headers={"WWW-Authenticate": 'Bearer realm="tmi"'},
            ) from error
        self._logins.revoke_token(body.token, caller)
        return Reply(b"{}", headers=self._cookies.clear())

    def _exchange(self, idp: str, body: TokenBody) -> Tokens:
        if idp == dev_provider.ID and not dev_provider.exists(self._settings):
            raise ApiError(403, "unsupported_grant_type", "The provider tmi exists only in development builds.")
        provider = self._providers.require_known(idp)
        if not (body.code and body.code_verifier and body.redirect_uri):
            raise invalid_request("code, code_verifier and redirect_uri are required.")
        if not pkce.is_verifier(body.code_verifier):
            raise invalid_request("code_verifier must be 43 to 128 unreserved characters.")
        pending = self._store.take_code(body.code)
        if pending is None:
            if session_id := self._store.session_opened_by(body.code):
                self._logins.end_session(session_id)
            raise _invalid_grant("The code is unknown, expired or already used.")
        if pending.provider != provider:
            raise _invalid_grant("The code belongs to another identity provider.")
        if not hmac.compare_digest(pending.client_callback.encode(), body.redirect_uri.encode()):
            raise _invalid_grant("redirect_uri is not the callback the code was sent to.")
        if not pkce.proves(body.code_verifier, pending.code_challenge):
            raise _invalid_grant("code_verifier does not match the code_challenge.")
        tokens = self._logins.log_in(pending.identity or _identity_of(body.code))
        self._store.remember_redeemed(body.code, tokens.session_id)
        return tokens

    def _refreshed(self, refresh_token: str) -> Reply:
        if not refresh_token:
            raise invalid_request("A refresh token is missing: send refresh_token or the cookie.")
        try:
            return self._granted(self._logins.refresh(refresh_token))
        except InvalidGrant:
            error = {"error": "invalid_grant", "error_description": "The refresh token is not valid any more."}
            # A reply and not an ApiError: it sets two cookies.
            return Reply(orjson.dumps(error), 400, headers=self._cookies.clear())

    def _granted(self, tokens: Tokens) -> Reply:
        body = {
            "access_token": tokens.access_token,
            "refresh_token": tokens.refresh_token,
            "token_type": "bearer",
            "expires_in": tokens.expires_in,
        }
        return Reply(orjson.dumps(body), headers=self._cookies.set(tokens))


def _identity_of(code: str) -> Identity:
    try:
        return dev_provider.exchange(code)
    except dev_provider.InvalidHint as error:
        raise _invalid_grant(dev_provider.HINT_RULE) from error
    except dev_provider.InvalidCode as error:
        raise _invalid_grant("The code is not one of the provider's.") from error


def _invalid_grant(message: str) -> ApiError:
    return ApiError(400, "invalid_grant", message)
