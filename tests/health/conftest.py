"""A health service with everything it watches: real stores that can be stopped, and real gRPC servers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.embedded.postgres import EmbeddedPostgres
from deploy.embedded.valkey import EmbeddedValkey
from services.health import prober
from services.health.handlers import HealthHandlers
from services.health.prober import Prober
from services.shared import rpc
from services.shared.settings import Settings
from tmi.health.v1 import health_pb2 as tmi_health_pb2
from tmi.health.v1 import health_pb2_grpc as tmi_health_pb2_grpc


@pytest.fixture(scope="session")
def own_postgres(data_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_folder / "watched-postgres", durable=False)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def own_valkey(data_folder: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(data_folder / "watched-valkey")
    yield server
    server.stop()


class Replica:
    """A gRPC server that only knows grpc.health.v1."""

    def __init__(self) -> None:
        self.server = grpc.aio.server()
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self.servicer, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    async def serve(self) -> None:
        await self.server.start()
        await self.servicer.set("", health_pb2.HealthCheckResponse.SERVING)


@dataclass
class System:
    """What the health service watches, and the service itself."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    replicas: dict[str, list[Replica]]
    settings: Settings = field(init=False)
    prober: Prober = field(init=False)
    stub: "tmi_health_pb2_grpc.HealthAsyncStub" = field(init=False)


@pytest.fixture
async def system(
    own_postgres: EmbeddedPostgres, own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[System]:
    monkeypatch.setattr(prober, "INTERVAL_SECONDS", 0.1)
    own_postgres.start()
    own_valkey.start()
    replicas = {name: [Replica() for _ in range(2)] for name in ("auth", "threat_model", "collaboration")}
    system = System(own_postgres, own_valkey, replicas)
    async with AsyncExitStack() as resources:
        for replica in (each for group in replicas.values() for each in group):
            await replica.serve()
            resources.push_async_callback(replica.server.stop, None)
        system.settings = Settings(
            build_mode="test",
            database_url=own_postgres.url("postgres"),
            redis_url=own_valkey.url,
            build_commit="0123456789abcdef",
            operator_name="Acme & Sons",
            operator_contact="<security@acme.example>",
            auth_address=[each.address for each in replicas["auth"]],
            threat_model_address=[each.address for each in replicas["threat_model"]],
            collaboration_address=[each.address for each in replicas["collaboration"]],
        )
        system.prober = await resources.enter_async_context(Prober(system.settings))
        server = grpc.aio.server()
        service = tmi_health_pb2.DESCRIPTOR.services_by_name["Health"]
        rpc.add_async_service(server, service, HealthHandlers(system.settings, system.prober).by_name())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        resources.push_async_callback(server.stop, None)
        channel = await resources.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        system.stub = tmi_health_pb2_grpc.HealthStub(channel)
        yield system
