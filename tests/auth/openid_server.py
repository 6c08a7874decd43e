"""An OpenID provider on loopback that does everything right until a test spoils some of its answers."""

import hashlib
import secrets
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.embedded.sockets import LOOPBACK
from services.auth.providers.configuration import ProviderConfiguration

CLIENT_ID = "tmi at the provider"
CLIENT_SECRET = "upstream+secret/of:tmi=never-logged"
SUBJECT = "248289761001"

SigningKey = RSAKey | ECKey | OctKey
Answer = Callable[[], Response]


@dataclass
class OpenIdServer:
    """url: its issuer. Everything else may be changed by a test.

    metadata, claims, userinfo: members to change; None takes one away. keys: published. sign: makes the ID token.
    answers: what a path answers instead. calls: how often each was asked. cookies: those it was sent.
    secrets: what no log may hold.
    """

    url: str
    metadata: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    key: SigningKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "first", "use": "sig"}))
    keys: list[SigningKey] | None = None
    sign: Callable[[dict[str, Any]], str] | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    cookies: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=lambda: {CLIENT_SECRET})
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _tokens: dict[str, dict[str, Any]] = field(default_factory=dict)

    def configuration(self, identifier: str = "corp", **changes: Any) -> ProviderConfiguration:
        """What an operator writes for it."""
        fields = {"issuer": self.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **changes}
        return ProviderConfiguration(id=identifier, **fields)

    def approve(self, location: str) -> dict[str, str]:
        """The person at the browser logs in: the parameters with which the provider sends it back."""
        request = dict(parse_qsl(urlsplit(location).query))
        assert location.startswith(f"{self.url}/authorize?")
        assert request["response_type"] == "code"
        assert request["client_id"] == CLIENT_ID
        assert "openid" in request["scope"].split()
        code = secrets.token_urlsafe(24)
        self._codes[code] = request
        self.secrets |= {code, request["nonce"]}
        return {"code": code, "state": request["state"], "iss": self.url}

    def answer(self, request: Request) -> Response:
        """Any request."""
        path = request.url.path
        self.calls[path] += 1
        self.cookies += request.headers.getlist("cookie")
        return self.answers[path]() if path in self.answers else JSONResponse(self._right(path, request))

    def _right(self, path: str, request: Request) -> Any:
        match path:
            case _ if path.endswith("/.well-known/openid-configuration"):
                return _changed(
                    {
                        "issuer": self.url,
                        "authorization_endpoint": f"{self.url}/authorize",
                        "token_endpoint": f"{self.url}/token",
                        "userinfo_endpoint": f"{self.url}/userinfo",
                        "jwks_uri": f"{self.url}/jwks",
                        "id_token_signing_alg_values_supported": ["ES256", "RS256", "HS256", "none"],
                        "authorization_response_iss_parameter_supported": True,
                    },
                    self.metadata,
                )
            case "/jwks":
                return {"keys": [key.as_dict(private=False) for key in self.keys or [self.key]]}
            case "/userinfo":
                return self._tokens[request.headers["authorization"].removeprefix("Bearer ")]
        raise AssertionError(path)

    async def token(self, request: Request) -> Response:
        """POST /token: the client, its redirect URI and its PKCE verifier must be right."""
        self.calls["/token"] += 1
        if "/token" in self.answers:
            return self.answers["/token"]()
        body = dict(parse_qsl((await request.body()).decode(), strict_parsing=True))
        scheme, _, credentials = request.headers["authorization"].partition(" ")
        client_id, _, secret = b64decode(credentials).decode().partition(":")
        asked = self._codes.pop(body.get("code", ""), None)
        if (scheme, unquote_plus(client_id), unquote_plus(secret)) != ("Basic", CLIENT_ID, CLIENT_SECRET):
            return JSONResponse({"error": "invalid_client"}, 401)
        challenge = urlsafe_b64encode(hashlib.sha256(body["code_verifier"].encode()).digest()).decode().rstrip("=")
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != body["redirect_uri"]:
            description = f"the code {body.get('code')} is not valid"
            return JSONResponse({"error": "invalid_grant", "error_description": description}, 400)
        access_token = secrets.token_urlsafe(24)
        person = {"sub": SUBJECT, "email": "Jane@Example.com", "email_verified": True, "name": "Jane Doe"}
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **person}
        self._tokens[access_token] = _changed(person, self.userinfo)
        id_token = (self.sign or self.signed)(_changed(claims, self.claims))
        self.secrets |= {access_token, id_token, body["code_verifier"]}
        return JSONResponse({"access_token": access_token, "token_type": "Bearer", "id_token": id_token})

    def signed(self, claims: dict[str, Any]) -> str:
        """The claims signed with the provider's key."""
        algorithm = "RS256" if isinstance(self.key, RSAKey) else "ES256"
        return jwt.encode({"alg": algorithm, "kid": self.key.kid}, claims, self.key, algorithms=[algorithm])


def _changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**members, **changes}.items() if value is not None}


@contextmanager
def serving(application: Starlette) -> Iterator[str]:
    """Serves an application on a free port of loopback; its URL."""
    server = uvicorn.Server(uvicorn.Config(application, host=LOOPBACK, port=0, log_config=None, lifespan="off"))
    started = threading.Event()
    startup = server.startup

    async def noted(*arguments: Any, **options: Any) -> None:
        await startup(*arguments, **options)
        started.set()

    server.startup = noted  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(30)
        yield f"http://{LOOPBACK}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join()


@contextmanager
def openid_server() -> Iterator[OpenIdServer]:
    """A provider of its own."""
    provider = OpenIdServer("")

    def answer(request: Request) -> Response:
        return provider.answer(request)

    application = Starlette(
        routes=[
            Route("/token", provider.token, methods=["POST"]),
            Route("/{path:path}", answer),
        ]
    )
    with serving(application) as url:
        provider.url = url
        yield provider
