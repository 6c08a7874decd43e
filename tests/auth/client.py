"""The auth service in this process on real stores, and a client that speaks to it as the gateway does."""

import itertools
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import grpc
import orjson
import redis
from google.api.httpbody_pb2 import HttpBody
from sqlalchemy import Connection, delete, event

from services.auth.__main__ import MIGRATIONS
from services.auth.directory.tables import groups, users
from services.auth.oauth import pkce
from services.auth.providers.configuration import ProviderConfiguration
from services.auth.providers.registry import Providers
from services.auth.schema import SCHEMA
from services.auth.service import add_services
from services.auth.sessions.tables import revocations
from services.auth.tokens.signing_keys import SigningKeys
from services.auth.tokens.tables import signing_keys
from services.shared import migrations, redis_connection, rfc3339
from services.shared.access_token import REVOCATIONS_CHANNEL, principal_of
from services.shared.database import Database
from services.shared.errors import ApiError, from_rpc_error
from services.shared.jwt import VerificationKey, verify
from services.shared.principal import PRINCIPAL_KEY, PUBLIC_URL_KEY
from services.shared.rpc import HTTP_HEADER_PREFIX, HTTP_STATUS_KEY
from services.shared.settings import Settings
from tmi.auth.v1 import client_configuration_pb2_grpc, me_pb2, me_pb2_grpc, oauth_pb2, oauth_pb2_grpc
from tmi.auth.v1.directory_pb2 import ListSigningKeysRequest, ResolveSessionRequest, Revocation
from tmi.auth.v1.directory_pb2_grpc import DirectoryStub

CALLBACK = "http://localhost:4200/oauth2/callback"
ISSUER = "http://localhost:8080"
PUBLIC_URL = "https://tmi.example"
ENCRYPTION_KEY = bytes(range(100, 132)).hex()
"""For production builds, which do not start without one."""
FORM = "application/x-www-form-urlencoded"

_NUMBERS = itertools.count(1)


class Clock:
    """Real time that tests can move forward."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return rfc3339.now() + self.offset

    def advance(self, **duration: float) -> None:
        self.offset += timedelta(**duration)


def migrated(url: str) -> Database:
    """The database at its newest revision, with nothing in it but the built-in groups."""
    database = Database(url, SCHEMA)
    migrations.upgrade(database, MIGRATIONS)
    database.write(_clear)
    return database


def _clear(connection: Connection) -> None:
    for table in (users, revocations, signing_keys):
        connection.execute(delete(table))
    connection.execute(delete(groups).where(groups.c.provider != "tmi"))


@contextmanager
def counted_statements(database: Database) -> Iterator[list[str]]:
    """Collects the SQL statements executed inside the block."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


@dataclass
class Answer:
    """What the gateway would make its HTTP response of."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])

    @property
    def cookies(self) -> list[str]:
        return [value for name, value in self.headers if name == "set-cookie"]

    @property
    def location(self) -> str:
        return dict(self.headers)["location"]

    @property
    def parameters(self) -> dict[str, str]:
        """Query of the redirect."""
        return dict(parse_qsl(urlsplit(self.location).query, keep_blank_values=True))


@dataclass
class Tokens:
    access: str
    refresh: str


class AuthClient:
    """Calls the RPCs of one running service."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.oauth = oauth_pb2_grpc.OAuthStub(channel)
        self.discovery = oauth_pb2_grpc.DiscoveryStub(channel)
        self.me = me_pb2_grpc.MeStub(channel)
        self.preferences = me_pb2_grpc.PreferencesStub(channel)
        self.groups = me_pb2_grpc.GroupsStub(channel)
        self.configuration = client_configuration_pb2_grpc.ClientConfigurationStub(channel)
        self.directory = DirectoryStub(channel)

    def call(self, rpc: Any, request: Any, access_token: str = "", *, with_groups: bool = False) -> Answer:
        """An Answer, for errors too. Fails if an error lacks what every error body has.

        with_groups: the principal carries the groups of its session, as the gateway resolves them.
        """
        metadata: list[tuple[str, str | bytes]] = [(PUBLIC_URL_KEY, PUBLIC_URL)]
        if access_token:
            principal = principal_of(self.claims(access_token))
            if with_groups:
                session = ResolveSessionRequest(session_id=principal.session_id, user_id=principal.user_id)
                principal.group_ids.extend(self.directory.ResolveSession(session).group_ids)
            metadata.append((PRINCIPAL_KEY, principal.SerializeToString()))
        try:
            body, call = rpc.with_call(request, metadata=metadata, timeout=20)
        except grpc.RpcError as failure:
            error: ApiError = from_rpc_error(failure)
            assert error.code
            assert error.message
            content = orjson.dumps({"error": error.code, "error_description": error.message})
            return Answer(error.status, content, [(name.lower(), value) for name, value in error.headers.items()])
        status, headers = 0, []
        for key, value in call.trailing_metadata():
            if key == HTTP_STATUS_KEY:
                status = int(value)
            elif key.startswith(HTTP_HEADER_PREFIX):
                headers.append((key.removeprefix(HTTP_HEADER_PREFIX), value))
        return Answer(status, body.data, headers)

    def claims(self, access_token: str) -> dict[str, Any]:
        """The claims of a token, verified with the published keys."""
        answer = self.directory.ListSigningKeys(ListSigningKeysRequest())
        keys = {key.kid: VerificationKey.load(key.kid, key.algorithm, key.verification_key) for key in answer.keys}
        issued = orjson.loads(_decode(access_token))["iat"]
        return verify(access_token, keys, issuer=answer.issuer, audience=answer.audience, now=issued)

    def authorize(self, **changes: str) -> Answer:
        """GET /oauth2/authorize; by default a valid request for `alice`."""
        parameters = {
            "idp": "tmi",
            "client_callback": CALLBACK,
            "state": "f00d",
            "login_hint": "alice",
            "scope": "openid profile email",
            "code_challenge": pkce.challenge_of("v" * 43),
            "code_challenge_method": "S256",
        }
        return self.call(self.oauth.Authorize, oauth_pb2.AuthorizeRequest(**{**parameters, **changes}))

    def callback(self, **parameters: str) -> Answer:
        """GET /oauth2/callback."""
        return self.call(self.oauth.Callback, oauth_pb2.CallbackRequest(**parameters))

    def token(self, *, idp: str = "tmi", form: bool = False, cookie: str = "", **parameters: Any) -> Answer:
        """POST /oauth2/token as JSON or as a form."""
        request = oauth_pb2.TokenRequest(idp=idp, body=body_of(parameters, form=form), refresh_cookie=cookie)
        return self.call(self.oauth.Token, request)

    def exchange(self, code: str, *, verifier: str = "v" * 43, redirect_uri: str = CALLBACK, **more: Any) -> Answer:
        """Redeems an authorization code."""
        return self.token(
            grant_type="authorization_code", code=code, code_verifier=verifier, redirect_uri=redirect_uri, **more
        )

    def log_in(self, name: str = "") -> Tokens:
        """A complete login of the user with that name, or of one that never logged in before."""
        answer = self.authorize(login_hint=name or f"person-{next(_NUMBERS)}", state=secrets.token_hex(16))
        granted = self.exchange(answer.parameters["code"])
        assert granted.status == 0, granted.body
        return Tokens(granted.json["access_token"], granted.json["refresh_token"])

    def refresh(self, token: str = "", *, cookie: str = "") -> Answer:
        """POST /oauth2/refresh."""
        body = body_of({"refresh_token": token} if token else {})
        return self.call(self.oauth.Refresh, oauth_pb2.RefreshRequest(body=body, refresh_cookie=cookie))

    def revoke(self, bearer: str, *, form: bool = False, **parameters: Any) -> Answer:
        """POST /oauth2/revoke."""
        authorization = f"Bearer {bearer}" if bearer else ""
        request = oauth_pb2.RevokeRequest(body=body_of(parameters, form=form), authorization=authorization)
        return self.call(self.oauth.Revoke, request)

    def introspect(self, bearer: str, **parameters: Any) -> Answer:
        """POST /oauth2/introspect."""
        authorization = f"Bearer {bearer}" if bearer else ""
        request = oauth_pb2.IntrospectRequest(body=body_of(parameters, form=True), authorization=authorization)
        return self.call(self.oauth.Introspect, request)

    def profile(self, access_token: str) -> Answer:
        """GET /me."""
        return self.call(self.me.GetMe, me_pb2.GetMeRequest(), access_token)

    def log_out(self, access_token: str) -> Answer:
        """POST /me/logout."""
        return self.call(self.me.Logout, me_pb2.LogoutRequest(), access_token)


def body_of(parameters: dict[str, Any], *, form: bool = False) -> HttpBody:
    """A request body."""
    if form:
        return HttpBody(content_type=FORM, data=urlencode(parameters).encode())
    return HttpBody(content_type="application/json; charset=utf-8", data=orjson.dumps(parameters))


def _decode(token: str) -> bytes:
    payload = token.split(".")[1]
    return urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


@dataclass
class Service:
    """A running service and what it stands on."""

    client: AuthClient
    database: Database
    redis: redis.Redis
    keys: SigningKeys
    clock: Clock
    settings: Settings

    @contextmanager
    def revocations(self) -> Iterator[Callable[[], Revocation]]:
        """Listens on the channel; the result waits for the next revocation published there."""
        client: Any = self.redis
        with client.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(REVOCATIONS_CHANNEL)
            subscription.get_message(timeout=5)  # the server's confirmation

            def following() -> Revocation:
                for _ in range(20):
                    if message := subscription.get_message(timeout=1):
                        return Revocation.FromString(message["data"])
                raise AssertionError("nothing was published")

            yield following


@contextmanager
def serving(
    settings: Settings, database: Database, clock: Clock, configured: Sequence[ProviderConfiguration] = ()
) -> Iterator[Service]:
    """Serves on a free loopback port until the block ends."""
    client = redis_connection.connect(settings.redis_url)
    keys = SigningKeys(database, settings, clock)
    keys.ensure()
    providers = Providers(settings, configured, clock)
    server = grpc.server(ThreadPoolExecutor(8))
    names: Sequence[str] = add_services(server, settings, database, client, keys, providers, clock)
    assert len(names) == 7
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    try:
        yield Service(AuthClient(channel), database, client, keys, clock, settings)
    finally:
        channel.close()
        server.stop(None).wait()
        providers.close()
        client.close()
