"""Collaboration replicas and socket gateways with a fake sequencer, on real gRPC, Redis and WebSockets."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import grpc
import orjson
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.sockets.app import SocketApp
from gateway.sockets.protocol import RoomWebSocketProtocol
from services.collaboration.service import CollaborationService
from services.shared import rpc
from services.shared.principal import PRINCIPAL_KEY, PUBLIC_URL_KEY, REQUEST_ID_KEY
from services.shared.redis_connection import connect_async
from services.shared.settings import Settings
from tests.collaboration.fake_sequencer import Diagram, FakeSequencer
from tmi.auth.v1.directory_pb2 import Revocation
from tmi.collaboration.v1 import sessions_pb2
from tmi.collaboration.v1.sessions_pb2_grpc import SessionsStub
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import ROLE_OWNER, ROLE_READER, ROLE_WRITER

REQUEST_ID = "request-of-the-test"
PUBLIC_URL = "https://tmi.example.com/api"


def principal(name: str, **fields: Any) -> Principal:
    return Principal(
        user_id=f"id-{name}",
        provider="tmi",
        provider_id=name,
        email=f"{name}@example.com",
        display_name=name.title(),
        token_id=f"token-{name}",
        session_id=f"login-{name}",
        is_administrator=name == "root",
        expires_at=fields.get("expires_at", int(time.time()) + 3600),
    )


async def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Waits for a condition, by looking often."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class FakeRevocations:
    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self._callbacks: list[Callable[[Revocation], None]] = []

    def require(self) -> None:
        pass

    def is_revoked(self, principal: Principal) -> bool:
        return principal.token_id in self.revoked

    def subscribe(self, callback: Callable[[Revocation], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def revoke(self, token_id: str) -> None:
        self.revoked.add(token_id)
        for callback in self._callbacks:
            callback(Revocation(id=token_id))


class Replica:
    """One collaboration service with its own server and Redis connections."""

    def __init__(self, settings: Settings, sequencer_address: str) -> None:
        self._settings = settings
        self._sequencer_address = sequencer_address
        self.port = 0

    async def start(self) -> None:
        self._client = connect_async(self._settings.redis_url)
        self._channel = grpc.aio.insecure_channel(self._sequencer_address, options=rpc.CHANNEL_OPTIONS)
        self.service = CollaborationService(self._settings, self._channel, self._client)
        self.server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
        self.service.add_to(self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        self.service.start()

    async def kill(self) -> None:
        """As abrupt as it gets within a process."""
        await self.server.stop(None)
        await self.service.stop()
        await self._channel.close(None)
        await self._client.aclose()


class Gateway:
    """SocketApp alone under uvicorn."""

    def __init__(self, settings: Settings, addresses: list[str], revocations: FakeRevocations) -> None:
        self._channel = grpc.aio.insecure_channel(rpc.target(addresses), options=rpc.CHANNEL_OPTIONS)
        self.app = SocketApp(settings, self._channel, revocations)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            ws=RoomWebSocketProtocol,
            ws_max_size=settings.websocket_close_above_bytes,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        await eventually(lambda: self._server.started)

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._task
        await self.app.close(1.0)
        await self._channel.close(None)


class Client:
    """A WebSocket client that keeps every message; corrections (see services.collaboration.corrections) apart."""

    def __init__(self, name: str, connection: ClientConnection) -> None:
        self.name = name
        self.connection = connection
        self.messages: list[dict[str, Any]] = []
        self.corrections: list[dict[str, Any]] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for text in self.connection:
                message = orjson.loads(text)
                is_event = message["message_type"] == "diagram_operation_event"
                is_correction = is_event and UUID(message["operation_id"]).version == 5
                (self.corrections if is_correction else self.messages).append(message)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["message_type"] == kind]

    async def receive(self, kind: str, number: int = 1) -> dict[str, Any]:
        """The message of this kind with this number, counted from 1."""
        try:
            await eventually(lambda: len(self.of(kind)) >= number)
        except TimeoutError:
            raise AssertionError(f"{self.name} has no {kind} number {number}: {self.messages}") from None
        return self.of(kind)[number - 1]

    async def send(self, message: dict[str, Any]) -> None:
        await self.connection.send(orjson.dumps(message).decode())

    async def edit(self, cell_id: str, *, operation_id: str = "", operation: str = "add", **data: Any) -> str:
        operation_id = operation_id or str(uuid4())
        change: dict[str, Any] = {"id": cell_id, "operation": operation}
        if operation != "remove":
            change["data"] = {"id": cell_id, "shape": "process", **data}
        await self.send(
            {
                "message_type": "diagram_operation_request",
                "operation_id": operation_id,
                "base_vector": 0,
                "operation": {"type": "patch", "cells": [change]},
            }
        )
        return operation_id

    async def closed(self) -> tuple[int | None, str | None]:
        """Code and reason, once the connection is closed."""
        async with asyncio.timeout(10):
            await self.connection.wait_closed()
            await self._reader
        return self.connection.close_code, self.connection.close_reason

    async def close(self) -> None:
        await self.connection.close()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def vanish(self) -> None:
        """Loses the connection without a close frame."""
        self.connection.transport.abort()
        await asyncio.gather(self._reader, return_exceptions=True)


class Stack:
    """Everything, with a diagram on which alice owns, bob writes and carol reads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sequencer = FakeSequencer()
        self.revocations = FakeRevocations()
        self.replicas: list[Replica] = []
        self.gateways: list[Gateway] = []
        self.clients: list[Client] = []
        self.diagram: Diagram = self.sequencer.add_diagram(alice=ROLE_OWNER, bob=ROLE_WRITER, carol=ROLE_READER)

    async def start(self, replicas: int, gateways: int) -> None:
        self._sequencer_server = grpc.aio.server()
        self.sequencer.add_to(self._sequencer_server)
        port = self._sequencer_server.add_insecure_port("127.0.0.1:0")
        await self._sequencer_server.start()
        for _ in range(replicas):
            replica = Replica(self.settings, f"127.0.0.1:{port}")
            await replica.start()
            self.replicas.append(replica)
        addresses = [f"127.0.0.1:{replica.port}" for replica in self.replicas]
        for number in range(gateways):
            # Each gateway prefers another replica, so that rooms span replicas.
            order = addresses[number % replicas :] + addresses[: number % replicas]
            gateway = Gateway(
                self.settings, order[:1] if number < replicas and gateways > 1 else order, self.revocations
            )
            await gateway.start()
            self.gateways.append(gateway)

    async def stop(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))
        await asyncio.gather(*(gateway.stop() for gateway in self.gateways))
        await asyncio.gather(*(replica.kill() for replica in self.replicas))
        await self._sequencer_server.stop(None)

    async def call(self, name: str, method: str, request: Any, replica: int = 0) -> Any:
        """A REST operation as the gateway calls it: the decoded body."""
        body, _ = await self.call_with_metadata(name, method, request, replica)
        return body

    async def call_with_metadata(
        self, name: str, method: str, request: Any, replica: int = 0
    ) -> tuple[Any, dict[str, Any]]:
        metadata = (
            (PRINCIPAL_KEY, principal(name).SerializeToString()),
            (PUBLIC_URL_KEY, PUBLIC_URL),
            (REQUEST_ID_KEY, REQUEST_ID),
        )
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.replicas[replica].port}") as channel:
            call = getattr(SessionsStub(channel), method)(request, metadata=metadata)
            answer = await call
            trailing = dict(await call.trailing_metadata())
        return (orjson.loads(answer.data) if answer.data else None), trailing

    async def open_session(self, name: str = "alice", replica: int = 0) -> dict[str, Any]:
        request = sessions_pb2.JoinDiagramSessionRequest(
            threat_model_id=self.diagram.threat_model_id, diagram_id=self.diagram.diagram_id
        )
        session: dict[str, Any] = await self.call(name, "JoinDiagramSession", request, replica)
        return session

    async def ticket(self, name: str, replica: int = 0) -> str:
        assert self.diagram.session is not None
        request = sessions_pb2.IssueTicketRequest(session_id=self.diagram.session.session_id)
        return str((await self.call(name, "IssueTicket", request, replica))["ticket"])

    def url(self, ticket: str, gateway: int = 0) -> str:
        path = f"/threat_models/{self.diagram.threat_model_id}/diagrams/{self.diagram.diagram_id}/ws"
        assert self.diagram.session is not None
        query = f"session_id={self.diagram.session.session_id}&ticket={ticket}"
        return f"ws://127.0.0.1:{self.gateways[gateway].port}{path}?{query}"

    async def connect(self, name: str, gateway: int = 0) -> Client:
        """A connected client that has its state and a list of participants with itself."""
        url = self.url(await self.ticket(name), gateway)
        client = Client(name, await connect(url, compression=None, max_size=None))
        self.clients.append(client)
        await client.receive("diagram_state")
        await eventually(
            lambda: any(
                name in [entry["user"]["provider_id"] for entry in update["participants"]]
                for update in client.of("participants_update")
            )
        )
        return client


@asynccontextmanager
async def running(settings: Settings, *, replicas: int = 2, gateways: int = 1) -> AsyncIterator[Stack]:
    stack = Stack(settings)
    await stack.start(replicas, gateways)
    try:
        yield stack
    finally:
        await stack.stop()
