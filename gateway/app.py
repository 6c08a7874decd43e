"""The gateway as an ASGI application: its parts, the order of its stages, its start and its end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import grpc
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import openapi, root
from gateway.exchange import EXCHANGE_KEY, Exchange
from gateway.local_answers import LIVENESS, LIVENESS_PATH, OPENAPI_PATH, LocalAnswers
from gateway.middleware.accept import AcceptGate
from gateway.middleware.access_log import AccessLog
from gateway.middleware.authentication import Authentication
from gateway.middleware.body import BodyBudget, BodyReader
from gateway.middleware.content_type import ContentTypeGate
from gateway.middleware.cors import Cors
from gateway.middleware.duplicate_headers import DuplicateHeaderGate
from gateway.middleware.foreign_pages import ForeignPageGate
from gateway.middleware.methods import MethodGate
from gateway.middleware.path_parameters import PathParameterGate
from gateway.middleware.rate_limiting import RateLimiting
from gateway.middleware.recovery import Recovery
from gateway.middleware.request_id import RequestId, name_request
from gateway.middleware.routing import Routing
from gateway.middleware.security_headers import SecurityHeaders
from gateway.middleware.strict_json import StrictJsonGate
from gateway.middleware.trailing_slash import TrailingSlash
from gateway.middleware.unicode import UnicodeGate
from gateway.public_url import PublicUrl
from gateway.rate_limits import RateLimiter
from gateway.readiness import Readiness
from gateway.revocations import Revocations
from gateway.routes import Routes
from gateway.session_roles import SessionRoles
from gateway.signing_keys import SigningKeys
from gateway.sockets.app import SocketApp
from gateway.tokens import TokenVerifier
from gateway.transcoding import Transcoder
from gateway.trusted_proxies import TrustedProxies
from services.shared import rpc
from services.shared.operations import http_operations
from services.shared.redis_connection import connect_async
from services.shared.settings import Settings
from tmi.auth.v1.directory_pb2_grpc import DirectoryStub

logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> "Application":
    """The application for an ASGI server with lifespan: what it needs is opened at start-up and closed at the end.

    Raises ValueError for settings that make no sense, CannotStart for declarations that cannot be followed.
    """
    TrustedProxies(settings.trusted_proxies)
    return Application(settings, Routes(http_operations()))


@asynccontextmanager
async def serving(settings: Settings, routes: Routes, readiness: Readiness | None = None) -> AsyncIterator[ASGIApp]:
    """The application for HTTP and WebSocket scopes with everything it needs, for as long as the context lasts."""
    async with AsyncExitStack() as stack:
        channels: dict[str, grpc.aio.Channel] = {}
        for service, addresses in (
            ("auth", settings.auth_address),
            ("threat_model", settings.threat_model_address),
            ("collaboration", settings.collaboration_address),
            ("health", settings.health_address),
        ):
            channels[service] = grpc.aio.insecure_channel(rpc.target(addresses), options=rpc.CHANNEL_OPTIONS)
            stack.push_async_callback(channels[service].close, None)
        directory = DirectoryStub(channels["auth"])
        keys = SigningKeys(directory)
        revocations = Revocations(directory, settings.redis_url)
        for forever in (keys.run(), revocations.run()):
            stack.push_async_callback(_cancel, asyncio.create_task(forever))
        sockets = SocketApp(settings, channels["collaboration"], revocations)
        stack.push_async_callback(sockets.close)
        verifier = TokenVerifier(keys, revocations, SessionRoles(directory, revocations))
        limiter = None
        if settings.redis_url and not settings.disable_rate_limiting:
            redis = connect_async(settings.redis_url)
            stack.push_async_callback(redis.aclose)
            limiter = RateLimiter(redis)
        yield _Dispatch(_http_app(settings, routes, channels, verifier, limiter, readiness or Readiness()), sockets)


def _http_app(
    settings: Settings,
    routes: Routes,
    channels: dict[str, grpc.aio.Channel],
    verifier: TokenVerifier,
    limiter: RateLimiter | None,
    readiness: Readiness,
) -> ASGIApp:
    """The stages of a request, the first one last.

    The order can be observed: everything that is wrong with the request itself is refused before
    the caller is asked for, and only a known caller learns which paths exist. Requests are counted
    last: by their user, who is known only then, or by what the body of a login says. What was refused
    before has cost no service anything.
    """
    proxies = TrustedProxies(settings.trusted_proxies)
    public_url = PublicUrl(
        settings.public_url,
        proxies,
        tls=settings.server_tls_enabled,
        fallback=settings.base_url if settings.build_mode == "production" else "",
    )
    app: ASGIApp = Transcoder(
        channels,
        routes.declared,
        public_url,
        timeout_seconds=settings.request_timeout_seconds,
        stream_idle_seconds=settings.stream_idle_timeout_seconds,
        root_fallback=root.fallback(settings),
    )
    if limiter is not None:
        app = RateLimiting(app, limiter, settings)
    app = authentication = Authentication(app, verifier)
    app = foreign_pages = ForeignPageGate(app, public_url, settings.cors_allowed_origins)

    async def admit(exchange: Exchange) -> None:
        foreign_pages.check(exchange)
        await authentication.identify(exchange)

    app = StrictJsonGate(app)
    app = UnicodeGate(app)
    app = BodyReader(
        app,
        admit=admit,
        budget=BodyBudget(settings.max_buffered_body_bytes),
        max_bytes=settings.max_body_bytes,
        timeout_seconds=settings.body_timeout_seconds,
    )
    app = ContentTypeGate(app)
    app = DuplicateHeaderGate(app)
    app = PathParameterGate(app)
    app = MethodGate(app)
    app = AcceptGate(app)
    app = TrailingSlash(app, routes)
    app = Routing(app, routes)
    app = LocalAnswers(app, {LIVENESS_PATH: LIVENESS, OPENAPI_PATH: openapi.document(routes.declared)}, readiness)
    app = Recovery(app)
    app = Cors(app, settings.cors_allowed_origins)
    app = SecurityHeaders(app, tls=settings.server_tls_enabled)
    app = AccessLog(app, proxies)
    return RequestId(app)


class _Dispatch:
    """Hands WebSockets and HTTP requests to their applications."""

    def __init__(self, http: ASGIApp, sockets: SocketApp) -> None:
        self._http = http
        self._sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[EXCHANGE_KEY] = Exchange(scope)
            await self._http(scope, receive, send)
        else:
            given = dict(scope["headers"]).get(b"x-request-id")
            scope.setdefault("state", {})["request_id"] = name_request(given)
            await self._sockets(scope, receive, send)


class Application:
    """Opens the application when the server starts and closes it when the server stops."""

    def __init__(self, settings: Settings, routes: Routes) -> None:
        self._settings = settings
        self._routes = routes
        self._app: ASGIApp | None = None
        self.readiness = Readiness()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a scope of any type."""
        if scope["type"] != "lifespan":
            assert self._app is not None, "the server did not run the lifespan"
            await self._app(scope, receive, send)
            return
        await receive()
        async with serving(self._settings, self._routes, self.readiness) as self._app:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
