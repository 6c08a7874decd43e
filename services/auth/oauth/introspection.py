"""POST /oauth2/introspect (RFC 7662): what an access token says, for those who have a right to know it."""

import orjson

from services.auth.oauth.bearer import bearer_token
from services.auth.oauth.bodies import IntrospectBody, parse
from services.auth.tokens.login import InvalidCaller, Logins
from services.shared.principal import Call
from services.shared.rpc import Reply
from tmi.auth.v1.oauth_pb2 import IntrospectRequest

SCOPE = "openid profile email"
_INACTIVE = Reply(b'{"active":false}')


class Introspection:
    """Handler of the RPC."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins

    def introspect(self, request: IntrospectRequest, _call: Call) -> Reply:
        """The claims of an access token that is valid now, to a caller who proves to be the same user.

        `{"active":false}` for any other token and any other caller, refresh tokens included: who guesses
        learns nothing (sections 2.2 and 4), and there is nothing that a client could do with an error.
        """
        body = parse(IntrospectBody, request.body)
        try:
            caller = self._logins.authenticate(bearer_token(request.authorization))
            claims = self._logins.live_claims(body.token)
        except InvalidCaller:
            return _INACTIVE
        if claims["tmi_user_id"] != caller:
            return _INACTIVE
        told = {name: claims[name] for name in ("sub", "email", "name", "iat", "exp", "iss")}
        return Reply(orjson.dumps({"active": True, **told, "token_type": "bearer", "scope": SCOPE}))
