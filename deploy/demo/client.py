"""A person who uses the API through a gateway, as a web client does: PKCE login, then REST."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx

CLIENT_CALLBACK = "http://localhost:4200/oauth2/callback"
"""Where the login returns to; allowed by default in a development build."""

_DEVELOPMENT_PROVIDER = "tmi"
_TIMEOUT_SECONDS = 30.0


class UnexpectedAnswer(Exception):
    """The system answered something else than the client counts on. The message is one line."""

    def __init__(self, response: httpx.Response) -> None:
        request = response.request
        body = " ".join(response.text.split())[:300]
        super().__init__(f"{request.method} {request.url.path} answered {response.status_code}: {body}")
        self.status = response.status_code


class Person:
    """One user at one gateway. An async context manager; `log_in` first, then `request`."""

    def __init__(
        self, name: str, gateway_url: str, *, use_cookies: bool = False, provider: str = _DEVELOPMENT_PROVIDER
    ) -> None:
        """use_cookies: identify by the session cookies like a browser, not by the bearer token.

        provider: the development provider, or the OpenID provider of `make run PROVIDER=oidc`.
        """
        self.name = name
        self.provider = provider
        self.gateway_url = gateway_url.rstrip("/")
        self.access_token = ""
        self.refresh_token = ""
        self._use_cookies = use_cookies
        self.http = httpx.AsyncClient(base_url=self.gateway_url, timeout=_TIMEOUT_SECONDS, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    @property
    def email(self) -> str:
        """The address that the development provider gives to this name."""
        return f"{self.name}@tmi.local"

    async def log_in(self) -> Self:
        """Authorization code flow with PKCE (RFC 7636). Raises UnexpectedAnswer."""
        verifier = secrets.token_urlsafe(48)
        state = secrets.token_hex(16)
        answer = await self.http.get(
            "/oauth2/authorize",
            params={
                "idp": self.provider,
                "client_callback": CLIENT_CALLBACK,
                "state": state,
                "scope": "openid profile email",
                "response_type": "code",
                "code_challenge": code_challenge(verifier),
                "code_challenge_method": "S256",
                "login_hint": self.name,
            },
        )
        while answer.status_code == httpx.codes.FOUND and not answer.headers["location"].startswith(CLIENT_CALLBACK):
            answer = await self.http.get(answer.headers["location"])
            if answer.status_code == httpx.codes.OK:  # the provider's login form
                form = {**answer.url.params, "user": self.name}
                answer = await self.http.post(answer.url.copy_with(query=None), data=form)
        returned = parse_qs(urlsplit(answer.headers.get("location", "")).query)
        if answer.status_code != httpx.codes.FOUND or returned.get("state") != [state] or "code" not in returned:
            raise UnexpectedAnswer(answer)
        tokens = await self.request(
            "POST",
            f"/oauth2/token?idp={self.provider}",
            {
                "grant_type": "authorization_code",
                "code": returned["code"][0],
                "code_verifier": verifier,
                "redirect_uri": CLIENT_CALLBACK,
            },
        )
        self.access_token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]
        if not self._use_cookies:
            self.http.cookies.clear()
            self.http.headers["Authorization"] = f"Bearer {self.access_token}"
        return self

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """One request, whatever the answer. A PATCH body is a JSON Patch (RFC 6902)."""
        sent = dict(headers or {})
        if body is not None and method == "PATCH":
            sent.setdefault("Content-Type", "application/json-patch+json")
        return await self.http.request(method, path, json=body, headers=sent)

    async def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON of a successful answer, None when it has no body. Raises UnexpectedAnswer."""
        response = await self.call(method, path, body, headers)
        if not response.is_success:
            raise UnexpectedAnswer(response)
        return response.json() if response.content else None

    async def socket_url(self, threat_model_id: str, diagram_id: str) -> str:
        """Joins the diagram's session, starting it if need be, and returns where to connect, ticket included."""
        session = await self.request("POST", f"/threat_models/{threat_model_id}/diagrams/{diagram_id}/collaborate", {})
        ticket = await self.request("GET", f"/ws/ticket?session_id={session['session_id']}")
        return f"{session['websocket_url']}&ticket={ticket['ticket']}"


def code_challenge(verifier: str) -> str:
    """The S256 challenge of a code verifier. RFC 7636 section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
