"""GET /oauth2/authorize and /oauth2/callback: from the client to the provider and back.

A faulty request is answered with 400 JSON, as the published contract has it, and never redirected:
the only redirects go to the provider or to a callback that is on the allow-list. Authorization
responses carry `iss` (RFC 9207), the provider's errors included.

The provider's code is exchanged in the callback, and the client gets a code of ours for who that is:
no code, token or secret of the provider ever reaches a client.
"""

import logging
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import redis
from sqlalchemy.exc import SQLAlchemyError

from services.auth.oauth import client_callback, pkce
from services.auth.oauth.authorization_store import AuthorizationRequest, AuthorizationStore
from services.auth.providers import dev_provider
from services.auth.providers.provider import ERROR_TEXT, UNAVAILABLE, Provider, ProviderFailure, UpstreamRequest
from services.auth.providers.registry import Providers
from services.auth.tokens.login import Logins
from services.shared.errors import ApiError, invalid_request
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.shared.settings import Settings
from tmi.auth.v1.oauth_pb2 import AuthorizeRequest, CallbackRequest

logger = logging.getLogger(__name__)

_GONE = "The identity provider is not configured any more."
_SCOPE = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_ ]*[a-zA-Z0-9_]")


class AuthorizationEndpoint:
    """Handlers of the two RPCs. Redis carries the request from one to the other."""

    def __init__(
        self,
        settings: Settings,
        providers: Providers,
        store: AuthorizationStore,
        logins: Logins,
        issuer: str,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._store = store
        self._logins = logins
        self._issuer = issuer
        self._now = now

    def authorize(self, request: AuthorizeRequest, _call: Call) -> Reply:
        """302 to the identity provider, RFC 6749 section 4.1.1 with PKCE (RFC 7636 section 4.3).

        The dev provider has nothing to ask, so its code goes straight to the client callback; a
        client without one is sent through this server's callback, which has no way back to it.
        """
        identifier = self._providers.require_known(request.idp)
        callback = request.client_callback
        if callback and not client_callback.is_allowed(callback, self._settings.oauth_client_callback_allowlist):
            raise invalid_request("client_callback is not on the allow-list of this server.")
        _check(request)
        # A `+` of unescaped base64 arrives as a space.
        state = request.state.replace(" ", "+") or urlsafe_b64encode(secrets.token_bytes(32)).decode()
        pending = AuthorizationRequest(identifier, callback, request.code_challenge, state)
        provider = self._providers.find(identifier)
        if provider is None:
            return self._dev_login(pending, request.login_hint)
        if not callback:
            raise invalid_request("The parameter client_callback is missing.")
        return self._upstream_login(provider, pending)

    def callback(self, request: CallbackRequest, _call: Call) -> Reply:
        """302 to the client callback with a code or the provider's error. The state works once."""
        if not request.state:
            raise invalid_request("The parameter state is missing.")
        if not request.code and not request.error:
            raise invalid_request("The parameter code is missing.")
        state = request.state.replace(" ", "+")
        pending = self._store.take_state(state)
        if pending is None:
            raise invalid_request("The state is unknown, expired or already used.")
        if not pending.client_callback:
            raise invalid_request("The login was started without a client_callback.")
        if pending.upstream is not None:
            return self._upstream_answer(pending, pending.upstream, request)
        if request.error:
            return self._respond(pending, _provider_error(request))
        if not dev_provider.is_code(request.code):
            raise invalid_request("The code is not one of the provider's.")
        if not self._store.remember_code(request.code, pending):
            raise invalid_request("The code is already waiting to be exchanged.")
        return self._respond(pending, {"code": request.code})

    def _dev_login(self, pending: AuthorizationRequest, login_hint: str) -> Reply:
        try:
            code = dev_provider.new_code(self._now().timestamp(), login_hint)
        except dev_provider.InvalidHint as error:
            raise invalid_request(dev_provider.HINT_RULE) from error
        self._store.remember_state(pending.state, pending)
        if not pending.client_callback:
            return _redirect(self._settings.oauth_callback_url, {"code": code, "state": pending.state})
        self._store.remember_code(code, pending)
        return self._respond(pending, {"code": code})

    def _upstream_login(self, provider: Provider, pending: AuthorizationRequest) -> Reply:
        """The provider gets a state of our own: the client's may be guessed, or used for two logins at once."""
        upstream = UpstreamRequest.new()
        try:
            with self._providers.upstream.waiting():
                url = provider.authorization_url(upstream)
        except ProviderFailure as failure:
            return self._failed(pending, failure.code, failure.description, failure.reason)
        self._store.remember_state(upstream.state, replace(pending, upstream=upstream))
        return Reply(headers=[("location", url)])

    def _upstream_answer(
        self, pending: AuthorizationRequest, upstream: UpstreamRequest, request: CallbackRequest
    ) -> Reply:
        """The state is spent, so every failure from here on is told to the client, which may begin again."""
        provider = self._providers.find(pending.provider)
        if provider is None:
            return self._failed(pending, "server_error", _GONE, "the provider is not configured any more")
        try:
            with self._providers.upstream.waiting():
                provider.check_response(request.iss)
                if request.error:
                    error = _provider_error(request)
                    logger.warning("login refused", extra={"provider": pending.provider, "error": error["error"]})
                    return self._respond(pending, error)
                identity = provider.identify(request.code, upstream)
            self._logins.check(identity)
            code = secrets.token_urlsafe(32)
            self._store.remember_code(code, replace(pending, upstream=None, identity=identity))
        except ProviderFailure as failure:
            return self._failed(pending, failure.code, failure.description, failure.reason)
        except ApiError as error:
            return self._failed(pending, error.code, error.message, error.message)
        except (redis.RedisError, SQLAlchemyError) as error:
            reason = f"a store cannot be used ({type(error).__name__})"
            return self._failed(pending, UNAVAILABLE, "Logging in is not possible at the moment.", reason)
        return self._respond(pending, {"code": code})

    def _failed(self, pending: AuthorizationRequest, code: str, description: str, reason: str) -> Reply:
        logger.warning("login failed", extra={"provider": pending.provider, "error": code, "reason": reason})
        return self._respond(pending, {"error": code, "error_description": description})

    def _respond(self, pending: AuthorizationRequest, parameters: dict[str, str]) -> Reply:
        return _redirect(pending.client_callback, {**parameters, "state": pending.state, "iss": self._issuer})


def _check(request: AuthorizeRequest) -> None:
    if request.response_type not in ("", "code"):
        raise ApiError(400, "unsupported_response_type", "response_type must be code.")
    if not _SCOPE.fullmatch(request.scope) or "openid" not in request.scope.split():
        raise ApiError(400, "invalid_scope", "scope must be words separated by spaces and contain openid.")
    if not pkce.is_challenge(request.code_challenge):
        raise invalid_request("code_challenge must be the base64url SHA-256 of the code verifier, without padding.")
    if request.code_challenge_method != pkce.METHOD:
        raise invalid_request("code_challenge_method must be S256.")


def _provider_error(request: CallbackRequest) -> dict[str, str]:
    error = request.error if ERROR_TEXT.fullmatch(request.error) else "server_error"
    if request.error_description and ERROR_TEXT.fullmatch(request.error_description):
        return {"error": error, "error_description": request.error_description}
    return {"error": error}


def _redirect(url: str, parameters: dict[str, str]) -> Reply:
    return Reply(headers=[("location", client_callback.with_parameters(url, parameters))])
