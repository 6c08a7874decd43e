"""The threat-model service in process behind a real gRPC port, called as the gateway calls it."""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message_factory import GetMessageClass
from sqlalchemy import event

from services.auth import schema as auth_schema
from services.auth.__main__ import MIGRATIONS as AUTH_MIGRATIONS
from services.auth.directory import principals
from services.auth.directory.tables import users
from services.auth.directory.users import record_login
from services.auth.providers.identity import Identity
from services.shared import migrations, rfc3339
from services.shared.database import Database
from services.shared.errors import ApiError, from_rpc_error, unavailable
from services.shared.operations import HttpOperation, http_operations
from services.shared.principal import PRINCIPAL_KEY, REQUEST_ID_KEY, Call
from services.shared.rpc import CHANNEL_OPTIONS, HTTP_HEADER_PREFIX, HTTP_STATUS_KEY, SERVER_OPTIONS
from services.threat_model.people.directory import PrincipalDirectory
from services.threat_model.service import add_services
from tmi.auth.v1.directory_pb2 import PrincipalQuery, PrincipalRecord
from tmi.principal.v1.principal_pb2 import Principal

_RPCS = {operation.rpc_path for operation in http_operations() if operation.service == "threat_model"}
OPERATIONS: dict[str, HttpOperation] = {
    operation.method.name: operation for operation in http_operations() if operation.service == "threat_model"
}
"""An HTTP operation of each RPC of the service, by RPC name."""
assert len(_RPCS) == len(OPERATIONS), "two RPCs have the same name"


def new_user(name: str = "user", **claims: Any) -> Principal:
    """Somebody who has never been seen before."""
    user_id = str(uuid.uuid4())
    return Principal(
        user_id=user_id,
        provider="tmi",
        provider_id=f"{name}-{user_id}",
        email=f"{name}-{user_id}@example.com",
        display_name=name.title(),
        group_ids=[uuid.UUID(group).bytes for group in claims.pop("groups", [])],
        **claims,
    )


class Directory:
    """The auth service's own directory, in a database. Records what it is asked, a list for each call."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, auth_schema.SCHEMA)
        migrations.upgrade(self.database, AUTH_MIGRATIONS)
        self.asked: list[Sequence[PrincipalQuery]] = []
        self.reachable = True

    def add(self, principal: Principal) -> None:
        """Makes a user known to auth who has logged in and not called this service."""
        row = {
            "id": principal.user_id,
            "provider": principal.provider,
            "provider_id": principal.provider_id,
            "email": principal.email,
            "display_name": principal.display_name,
            "email_verified": True,
            "created_at": rfc3339.now(),
            "last_login_at": rfc3339.now(),
        }
        self.database.write(lambda connection: connection.execute(users.insert(), row))

    def log_in(self, provider: str, provider_id: str, email: str) -> Principal:
        """The user who comes with a verified address."""
        identity = Identity(provider, provider_id, email, provider_id.title(), email_verified=True)
        user = self.database.write(lambda connection: record_login(connection, identity, rfc3339.now()))
        return Principal(
            user_id=user.id,
            provider=user.provider,
            provider_id=user.provider_id,
            email=user.email,
            display_name=user.display_name,
        )

    def resolve(self, queries: Sequence[PrincipalQuery], call: Call) -> list[PrincipalRecord]:
        """As the auth service does."""
        if not self.reachable:
            raise unavailable("The service is not available at the moment.")
        self.asked.append(queries)
        return principals.resolve(self.database, queries, rfc3339.now())


@dataclass
class Answer:
    """What the gateway would answer."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The JSON body."""
        return orjson.loads(self.raw)

    @property
    def version(self) -> int:
        """The version in the ETag."""
        return int(self.headers["etag"].strip('"'))


@dataclass
class Api:
    """Calls as one caller. `api.GetThreat(threat_model_id=…)`; a body is JSON data, or bytes as they are."""

    channel: grpc.Channel
    database: Database
    directory: Directory
    caller: Principal = field(default_factory=new_user)
    timeout_seconds: float = 20.0

    def __getattr__(self, rpc: str) -> Any:
        if rpc not in OPERATIONS:
            raise AttributeError(rpc)
        return partial(self.call, OPERATIONS[rpc])

    def as_caller(self, caller: Principal) -> "Api":
        """The same service, somebody else."""
        return Api(self.channel, self.database, self.directory, caller)

    def with_timeout(self, seconds: float) -> "Api":
        """The same caller, with another deadline."""
        return replace(self, timeout_seconds=seconds)

    def call(self, operation: HttpOperation, body: Any = None, **fields: Any) -> Answer:
        """Raises ApiError for an error."""
        request = GetMessageClass(operation.method.input_type)()
        if body is not None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            fields["body"] = HttpBody(content_type="application/json", data=data)
        if "limit" in request.DESCRIPTOR.fields_by_name:
            fields.setdefault("limit", 20)
        request = GetMessageClass(operation.method.input_type)(**fields)
        rpc = self.channel.unary_unary(
            operation.rpc_path, lambda message: message.SerializeToString(), HttpBody.FromString
        )
        metadata = ((PRINCIPAL_KEY, self.caller.SerializeToString()), (REQUEST_ID_KEY, "test"))
        try:
            answer, state = rpc.with_call(request, metadata=metadata, timeout=self.timeout_seconds)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        trailing = {key: str(value) for key, value in state.trailing_metadata()}
        headers = {
            key.removeprefix(HTTP_HEADER_PREFIX): value
            for key, value in trailing.items()
            if key.startswith(HTTP_HEADER_PREFIX)
        }
        return Answer(int(trailing.get(HTTP_STATUS_KEY, operation.success_status)), headers, answer.data)

    def refusal(self, rpc: str, body: Any = None, **fields: Any) -> ApiError:
        """The error that the call answers."""
        try:
            answer = self.call(OPERATIONS[rpc], body, **fields)
        except ApiError as error:
            return error
        raise AssertionError(f"{rpc} answered {answer.status}")

    def new_threat_model(self, **members: Any) -> Any:
        """Document of a threat model of the caller's."""
        return self.CreateThreatModel({"name": "Shop"} | members).body

    def threat(self, threat_model_id: str, **members: Any) -> Any:
        """Document of a new threat."""
        return self.CreateThreat({"name": "Threat"} | members, threat_model_id=threat_model_id).body

    def diagram(self, threat_model_id: str, *cells: Any) -> Any:
        """Document of a new diagram with these cells."""
        body = {"name": "Diagram", "type": "DFD-1.0.0"}
        diagram = self.CreateDiagram(body, threat_model_id=threat_model_id).body
        if not cells:
            return diagram
        scope = {"threat_model_id": threat_model_id, "diagram_id": diagram["id"]}
        return self.ReplaceDiagram(body | {"cells": list(cells)}, **scope).body

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """SQL statements that reach the database within the block."""
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        event.listen(self.database.engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(self.database.engine, "before_cursor_execute", note)


def node(cell_id: str, **members: Any) -> dict[str, Any]:
    """A process node."""
    size = {"position": {"x": 10, "y": 20.5}, "size": {"width": 80, "height": 60}}
    return {"id": cell_id, "shape": "process"} | size | members


def edge(cell_id: str, source: str, target: str, /, **members: Any) -> dict[str, Any]:
    """A flow between two nodes."""
    return {"id": cell_id, "shape": "flow", "source": {"cell": source}, "target": {"cell": target}} | members


@contextmanager
def serving(
    database: Database, directory: PrincipalDirectory, *, require_if_match: bool = False
) -> Iterator[grpc.Channel]:
    """The service on a free port of this machine."""
    with ThreadPoolExecutor(8) as pool:  # a handler that outlives its call gives its connection back before the end
        server = grpc.server(pool, options=SERVER_OPTIONS)
        add_services(server, database, directory, require_if_match=require_if_match)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
            yield channel
        server.stop(0).wait()
