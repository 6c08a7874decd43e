"""Every service in one process: each RPC of the descriptors records its call and answers what the test set."""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.json_format import MessageToDict

from services.shared import jwt, rpc
from services.shared.access import OWNER
from services.shared.errors import ApiError, unauthorized, unavailable
from services.shared.operations import HttpOperation, http_operations
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.shared.settings import Settings
from tmi.auth.v1 import directory_pb2

ISSUER = "http://issuer.test"
USER_ID = "5d0f0c3e-0000-4000-8000-000000000001"
SESSION_ID = "5d0f0c3e-0000-4000-8000-000000000002"
OPERATIONS: tuple[HttpOperation, ...] = tuple(http_operations())


class Signer:
    """A key pair and the tokens it signs."""

    def __init__(self, kid: str = "k1") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.kid = kid
        self.private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(self, **changes: Any) -> str:
        return jwt.sign(claims(**changes), kid=self.kid, algorithm="ES256", key=self.private)

    @property
    def published(self) -> directory_pb2.SigningKey:
        return directory_pb2.SigningKey(kid=self.kid, algorithm="ES256", verification_key=self.public)


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a valid access token; a change to None leaves the claim out."""
    now = int(time.time())
    valid: dict[str, Any] = {
        "iss": ISSUER,
        "aud": [ISSUER],
        "sub": "alice",
        "idp": "tmi",
        "email": "alice@tmi.local",
        "name": "Alice (TMI User)",
        "tmi_user_id": USER_ID,
        "tmi_is_administrator": False,
        "tmi_is_security_reviewer": False,
        "auth_time": now,
        "jti": "token-1",
        "sid": SESSION_ID,
        "iat": now,
        "nbf": now,
        "exp": now + 600,
    }
    return {name: value for name, value in (valid | changes).items() if value is not None}


@dataclass
class Recorded:
    """One call that reached a service."""

    rpc: str
    request: dict[str, Any]
    body: bytes
    call: Call


@dataclass
class EchoServices:
    """The server. Set `reply` or `error` before the request, read `calls` after it.

    handlers: by RPC name, instead of the echo.
    """

    operations: Sequence[HttpOperation] = OPERATIONS
    signer: Signer = field(default_factory=Signer)
    extra_keys: list[directory_pb2.SigningKey] = field(default_factory=list)
    revocations: list[directory_pb2.Revocation] = field(default_factory=list)
    session: directory_pb2.ResolveSessionResponse | None = field(default_factory=directory_pb2.ResolveSessionResponse)
    resolved: list[tuple[str, str]] = field(default_factory=list)
    directory_down: bool = False
    reply: Reply = field(default_factory=lambda: Reply(b'{"ok":true}'))
    error: Exception | None = None
    handlers: dict[str, rpc.AsyncHandler] = field(default_factory=dict)
    before_reply: Callable[[], Awaitable[None]] | None = None
    calls: list[Recorded] = field(default_factory=list)
    key_fetches: int = 0
    revocation_reads: int = 0
    port: int = 0
    server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self.server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
        for service in _services(self.operations):
            rpc.add_async_service(self.server, service, self._handlers(service))
        rpc.add_async_service(
            self.server,
            directory_pb2.DESCRIPTOR.services_by_name["Directory"],
            {
                "ListSigningKeys": self._list_signing_keys,
                "ListRevocations": self._list_revocations,
                "ResolveSession": self._resolve_session,
                "ResolvePrincipals": self._resolve_principals,
            },
        )
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    def _handlers(self, service: ServiceDescriptor) -> dict[str, rpc.AsyncHandler]:
        return {method.name: self.handlers.get(method.name) or self._echo(method) for method in service.methods}

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.stop(None)

    def settings(self, **changes: Any) -> Settings:
        address = [f"127.0.0.1:{self.port}"]
        return Settings(
            auth_address=address,
            threat_model_address=address,
            collaboration_address=address,
            health_address=address,
            **({"build_mode": "test"} | changes),
        )

    def authorization(self, **changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.signer.token(**changes)}"}

    @property
    def last(self) -> Recorded:
        return self.calls[-1]

    def _echo(self, method: MethodDescriptor) -> rpc.AsyncHandler:
        async def handle(request: Any, call: Call) -> Reply:
            body = request.body.data if "body" in request.DESCRIPTOR.fields_by_name else b""
            self.calls.append(
                Recorded(method.name, MessageToDict(request, preserving_proto_field_name=True), body, call)
            )
            if self.before_reply is not None:
                await self.before_reply()
            if self.error is not None:
                raise self.error
            call.require(OWNER)
            return self.reply

        return handle

    async def _list_signing_keys(self, *_: Any) -> directory_pb2.ListSigningKeysResponse:
        self.key_fetches += 1
        self._refuse_when_down()
        return directory_pb2.ListSigningKeysResponse(
            keys=[self.signer.published, *self.extra_keys], issuer=ISSUER, audience=ISSUER
        )

    async def _list_revocations(self, *_: Any) -> directory_pb2.ListRevocationsResponse:
        self.revocation_reads += 1
        self._refuse_when_down()
        return directory_pb2.ListRevocationsResponse(revocations=self.revocations)

    async def _resolve_session(self, request: directory_pb2.ResolveSessionRequest, _: Call) -> Any:
        self.resolved.append((request.session_id, request.user_id))
        self._refuse_when_down()
        if self.session is None:
            raise unauthorized()
        return self.session

    async def _resolve_principals(self, *_: Any) -> directory_pb2.ResolvePrincipalsResponse:
        raise ApiError(500, "server_error", "not part of these tests")

    def _refuse_when_down(self) -> None:
        if self.directory_down:
            raise unavailable("down for the test")


def _services(operations: Sequence[HttpOperation]) -> Iterable[ServiceDescriptor]:
    services = (operation.method.containing_service for operation in operations)
    return {service.full_name: service for service in services}.values()
