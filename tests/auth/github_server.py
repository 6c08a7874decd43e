"""An OAuth 2 server shaped as GitHub is, on loopback: no OpenID, addresses in a list of their own."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from services.auth.oauth import pkce
from tests.auth.openid_server import serving

CLIENT_ID = "Iv1.0123456789abcdef"
CLIENT_SECRET = "0123456789abcdef-github-client-secret"


@dataclass
class GitHubServer:
    """user, emails: what the API says. before_emails: runs before it answers. secrets: what no log may hold."""

    url: str
    user: dict[str, Any] = field(default_factory=lambda: {"id": 583231, "login": "octocat", "name": None})
    emails: Any = field(
        default_factory=lambda: [
            {"email": "old@example.com", "primary": False, "verified": True},
            {"email": "Octocat@Example.com", "primary": True, "verified": True},
        ]
    )
    before_emails: Callable[[], None] = lambda: None
    secrets: set[str] = field(default_factory=lambda: {CLIENT_SECRET})
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _tokens: set[str] = field(default_factory=set)

    def environment(self) -> dict[str, str]:
        """The settings with which auth uses it as `github`."""
        fields = {
            "CLIENT_ID": CLIENT_ID,
            "CLIENT_SECRET": CLIENT_SECRET,
            "AUTHORIZATION_URL": f"{self.url}/login/oauth/authorize",
            "TOKEN_URL": f"{self.url}/login/oauth/access_token",
            "USERINFO_URL": f"{self.url}/user",
            "EMAILS_URL": f"{self.url}/user/emails",
        }
        return {f"OAUTH_PROVIDERS_GITHUB_{name}": value for name, value in fields.items()}

    def authorize(self, request: Request) -> Response:
        """GET /login/oauth/authorize: the person agrees at once."""
        asked = dict(request.query_params)
        assert asked["client_id"] == CLIENT_ID
        assert "nonce" not in asked
        code = secrets.token_hex(10)
        self._codes[code] = asked
        self.secrets.add(code)
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def access_token(self, request: Request) -> Response:
        """POST /login/oauth/access_token: errors are 200, as GitHub has it."""
        body = dict(parse_qsl((await request.body()).decode(), strict_parsing=True))
        asked = self._codes.pop(body["code"], None)
        if (body["client_id"], body["client_secret"]) != (CLIENT_ID, CLIENT_SECRET):
            return JSONResponse({"error": "incorrect_client_credentials"})
        if asked is None or not pkce.proves(body["code_verifier"], asked["code_challenge"]):
            return JSONResponse({"error": "bad_verification_code", "error_description": f"{body['code']} is wrong."})
        if asked["redirect_uri"] != body["redirect_uri"]:
            return JSONResponse({"error": "redirect_uri_mismatch"})
        token = f"gho_{secrets.token_hex(18)}"
        self._tokens.add(token)
        self.secrets |= {token, body["code_verifier"]}
        return JSONResponse({"access_token": token, "scope": "read:user,user:email", "token_type": "bearer"})

    def get_user(self, request: Request) -> Response:
        """GET /user."""
        return self._answer(request, self.user)

    def get_emails(self, request: Request) -> Response:
        """GET /user/emails."""
        self.before_emails()
        return self._answer(request, self.emails)

    def _answer(self, request: Request, value: Any) -> Response:
        is_known = request.headers["authorization"].removeprefix("Bearer ") in self._tokens
        return JSONResponse(value) if is_known else JSONResponse({"message": "Bad credentials"}, 401)


@contextmanager
def github_server() -> Iterator[GitHubServer]:
    """A server of its own, where one person has an account."""
    server = GitHubServer("")
    application = Starlette(
        routes=[
            Route("/login/oauth/authorize", server.authorize),
            Route("/login/oauth/access_token", server.access_token, methods=["POST"]),
            Route("/user", server.get_user),
            Route("/user/emails", server.get_emails),
        ]
    )
    with serving(application) as url:
        server.url = url
        yield server
