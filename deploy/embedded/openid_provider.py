"""An OpenID provider on this machine, for trying a real login without an account anywhere: `make run PROVIDER=oidc`.

    CLIENT_ID=… CLIENT_SECRET=… python -m deploy.embedded.openid_provider PORT REDIRECT_URI

The protocol is idpyoidc's, a certified implementation. Like the development provider it believes everybody: whoever
names a user is that user. It keeps nothing: keys and codes are gone when it stops.
"""

import os
import re
import sys
import time
from html import escape
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from idpyoidc.message import Message
from idpyoidc.server import Server
from idpyoidc.server.configure import OPConfiguration
from idpyoidc.server.user_authn.user import UserAuthnMethod
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from deploy.embedded.sockets import LOOPBACK

USER_FIELD = "user"
"""Of the login form. Its other fields are those of the authorization request."""

_USER = re.compile(r"[a-z0-9][a-z0-9-]{1,18}[a-z0-9]")
_SCOPES = ["openid", "profile", "email"]
_MODULE = "deploy.embedded.openid_provider"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>OpenID provider of this machine</title>
<style>body{{font:16px sans-serif;max-width:26rem;margin:4rem auto}}input,button{{font:inherit;padding:.4rem}}</style>
<h1>Who are you?</h1><p>Any name will do: 3 to 20 letters, digits or hyphens.</p>
<form method="post" action="/authorization">{fields}
<input name="{user}" autofocus required pattern="[a-z0-9][a-z0-9\\-]{{1,18}}[a-z0-9]" aria-label="Name">
<button>Log in</button></form></html>"""


class NamedUser(UserAuthnMethod):  # type: ignore[misc]
    """Authentication by saying a name, which the page below has asked for."""

    def authenticated_as(self, *_: object, authorization: str = "", **__: Any) -> tuple[dict[str, str] | None, int]:
        """The user and when that was; nobody before the form was sent."""
        return ({"uid": authorization} if authorization else None), int(time.time())


class Person(dict[str, Any]):
    """What the provider knows of a user: what follows from the name."""

    def __init__(self, user: str) -> None:
        name = user.replace("-", " ").title()
        super().__init__(name=name, email=f"{user}@example.com", email_verified=True, groups=["example-staff"])


def subject(user_id: str, **_: Any) -> str:
    """The subject of a user: the same at every start."""
    return user_id


class People:
    """idpyoidc's interface to a directory of users."""

    def __init__(self, **_: Any) -> None: ...

    def __call__(self, user_id: str, _client_id: str, user_info_claims: dict[str, Any] | None = None) -> dict[str, Any]:
        """The claims of a user that were asked for."""
        person = Person(user_id)
        return {name: person[name] for name in (user_info_claims or person) if name in person}


def _endpoint(path: str, kind: str, **arguments: Any) -> dict[str, Any]:
    return {"path": path, "class": f"idpyoidc.server.{kind}", "kwargs": arguments}


def configuration(issuer: str) -> dict[str, Any]:
    """OpenID Connect with the authorization code flow and PKCE, and nothing else."""
    keys = [{"type": "RSA", "use": ["sig"]}, {"type": "EC", "crv": "P-256", "use": ["sig"]}]
    methods = ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": issuer,
        "key_conf": {"key_defs": keys, "uri_path": "jwks.json"},
        "cookie_handler": None,
        "preference": {
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "scopes_supported": _SCOPES,
        },
        "endpoint": {
            "provider_config": _endpoint(
                ".well-known/openid-configuration",
                "oidc.provider_config.ProviderConfiguration",
                client_authn_method=None,
            ),
            "authorization": _endpoint(
                "authorization",
                "oidc.authorization.Authorization",
                client_authn_method=None,
                response_types_supported=["code"],
                response_modes_supported=["query"],
            ),
            "token": _endpoint("token", "oidc.token.Token", client_authn_method=methods),
            "userinfo": _endpoint("userinfo", "oidc.userinfo.UserInfo", client_authn_method=["bearer_header"]),
        },
        "authentication": {
            "name": {"acr": "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified", "class": f"{_MODULE}.NamedUser"}
        },
        "scopes_to_claims": {
            "openid": ["sub"],
            "profile": ["name", "groups"],
            "email": ["email", "email_verified"],
        },
        "userinfo": {"class": f"{_MODULE}.People"},
        "token_handler_args": {
            "jwks_def": {
                "private_path": "",  # Nothing is written: without this the keys go into ./private.
                "key_defs": [
                    {"type": "oct", "bytes": 24, "use": ["enc"], "kid": "code"},
                    {"type": "oct", "bytes": 24, "use": ["enc"], "kid": "token"},
                ],
            },
            "code": {"kwargs": {"lifetime": 60}},
            "token": {"class": "idpyoidc.server.token.jwt_token.JWTToken", "kwargs": {"lifetime": 300}},
            "id_token": {"class": "idpyoidc.server.token.id_token.IDToken", "kwargs": {"lifetime": 300}},
        },
        "session_params": {
            "sub_func": {"public": {"function": f"{_MODULE}.subject"}},
            "encrypter": {
                "kwargs": {
                    "keys": {
                        "key_defs": [
                            {"type": "OCT", "use": ["enc"], "kid": "password"},
                            {"type": "OCT", "use": ["enc"], "kid": "salt"},
                        ]
                    },
                    "iterations": 1,
                }
            },
        },
        "add_on": {
            "pkce": {
                "function": "idpyoidc.server.oauth2.add_on.pkce.add_support",
                "kwargs": {"essential": True, "code_challenge_methods": {"S256": "S256"}},
            }
        },
    }


class OpenIdProvider:
    """The HTTP in front of idpyoidc."""

    def __init__(self, issuer: str, client_id: str, client_secret: str, redirect_uri: str) -> None:
        self._server = Server(OPConfiguration(configuration(issuer)))
        self._server.context.cdb[client_id] = {
            "client_id": client_id,
            "client_secret": client_secret,
            "redirect_uris": [(redirect_uri, {})],
            "response_types_supported": ["code"],
            "allowed_scopes": _SCOPES,
            "token_endpoint_auth_method": "client_secret_basic",
        }
        self._server.keyjar.add_symmetric(client_id, client_secret)

    def application(self) -> Starlette:
        """Every endpoint that the metadata names."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/jwks.json", self._keys),
                Route("/authorization", self._authorization, methods=["GET", "POST"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo, methods=["GET", "POST"]),
            ]
        )

    async def _metadata(self, _request: Request) -> Response:
        return self._answer("provider_config", {}, {})

    async def _keys(self, _request: Request) -> Response:
        return Response(self._server.keyjar.export_jwks_as_json(), media_type="application/json")

    async def _authorization(self, request: Request) -> Response:
        parameters = dict(request.query_params) if request.method == "GET" else await _form(request)
        user = parameters.pop(USER_FIELD, "").strip().lower()
        if _USER.fullmatch(user):
            return self._answer("authorization", parameters, {}, authn=user)
        fields = "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in parameters.items()
        )
        return HTMLResponse(_PAGE.format(fields=fields, user=USER_FIELD))

    async def _token(self, request: Request) -> Response:
        http_info = {"headers": dict(request.headers), "method": "POST"}
        return self._answer("token", await _form(request), http_info)

    async def _userinfo(self, request: Request) -> Response:
        return self._answer("userinfo", {}, {"headers": dict(request.headers), "method": request.method})

    def _answer(self, name: str, parameters: dict[str, Any], http_info: dict[str, Any], **more: Any) -> Response:
        endpoint = self._server.endpoint[name]
        parsed = endpoint.parse_request(parameters, http_info=http_info)
        if isinstance(parsed, Message) and "error" in parsed:
            return JSONResponse(parsed.to_dict(), 400)
        result = endpoint.process_request(parsed, http_info=http_info, **more)
        if "error" in result and "return_uri" not in result:
            return JSONResponse({"error": result["error"]}, 400)
        answer = endpoint.do_response(request=parsed, **result)
        if name == "authorization":
            return RedirectResponse(answer["response"], 302)
        return Response(answer["response"], media_type="application/json", headers={"Cache-Control": "no-store"})


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


def main(arguments: list[str]) -> None:
    """Serves until SIGTERM."""
    port, redirect_uri = arguments
    client_id, client_secret = os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]
    provider = OpenIdProvider(f"http://localhost:{port}", client_id, client_secret, redirect_uri)
    uvicorn.run(provider.application(), host=LOOPBACK, port=int(port), log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1:])
