"""GET /oauth2/authorize and /oauth2/callback: from the client to the provider and back.

A faulty request is answered with 400 JSON, as the published contract has it, and never redirected:
the only redirects go to a callback that is on the allow-list. Authorization responses carry `iss`
(RFC 9207), the provider's errors included.
"""

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime

from services.auth.oauth import client_callback, pkce
from services.auth.oauth.authorization_store import AuthorizationRequest, AuthorizationStore
from services.auth.providers import dev_provider
from services.shared.errors import ApiError, invalid_request
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.shared.settings import Settings
from tmi.auth.v1.oauth_pb2 import AuthorizeRequest, CallbackRequest

_SCOPE = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_ ]*[a-zA-Z0-9_]")
_ERROR = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")  # RFC 6749 section 4.1.2.1


class AuthorizationEndpoint:
    """Handlers of the two RPCs. Redis carries the request from one to the other."""

    def __init__(self, settings: Settings, store: AuthorizationStore, issuer: str, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._store = store
        self._issuer = issuer
        self._now = now

    def authorize(self, request: AuthorizeRequest, _call: Call) -> Reply:
        """302 towards a code, RFC 6749 section 4.1.1 with PKCE (RFC 7636 section 4.3).

        The dev provider has nothing to ask, so its code goes straight to the client callback; a
        client without one is sent through this server's callback, which has no way back to it.
        """
        provider = dev_provider.require_known(request.idp, self._settings)
        callback = request.client_callback
        if callback and not client_callback.is_allowed(callback, self._settings.oauth_client_callback_allowlist):
            raise invalid_request("client_callback is not on the allow-list of this server.")
        _check(request)
        try:
            code = dev_provider.new_code(self._now().timestamp(), request.login_hint)
        except dev_provider.InvalidHint as error:
            raise invalid_request(dev_provider.HINT_RULE) from error
        # A `+` of unescaped base64 arrives as a space.
        state = request.state.replace(" ", "+") or urlsafe_b64encode(secrets.token_bytes(32)).decode()
        pending = AuthorizationRequest(provider, callback, request.code_challenge)
        self._store.remember_state(state, pending)
        if not callback:
            return _redirect(self._settings.oauth_callback_url, {"code": code, "state": state})
        self._store.remember_code(code, pending)
        return self._respond(callback, {"code": code, "state": state})

    def callback(self, request: CallbackRequest, _call: Call) -> Reply:
        """302 to the client callback with the provider's code or error. The state works once."""
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
        if request.error:
            return self._respond(pending.client_callback, {**_provider_error(request), "state": state})
        if not dev_provider.is_code(request.code):
            raise invalid_request("The code is not one of the provider's.")
        if not self._store.remember_code(request.code, pending):
            raise invalid_request("The code is already waiting to be exchanged.")
        return self._respond(pending.client_callback, {"code": request.code, "state": state})

    def _respond(self, callback: str, parameters: dict[str, str]) -> Reply:
        return _redirect(callback, {**parameters, "iss": self._issuer})


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
    error = request.error if _ERROR.fullmatch(request.error) else "server_error"
    if request.error_description and _ERROR.fullmatch(request.error_description):
        return {"error": error, "error_description": request.error_description}
    return {"error": error}


def _redirect(url: str, parameters: dict[str, str]) -> Reply:
    return Reply(headers=[("location", client_callback.with_parameters(url, parameters))])
