"""The service without its database, without Redis, and as a process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.embedded.postgres import EmbeddedPostgres
from tests.auth.client import AuthClient, Service


@contextmanager
def closed(postgres: EmbeddedPostgres, service: Service) -> Iterator[None]:
    """The service's database refuses connections inside the block, and drops those that exist."""
    name = service.database.engine.url.database
    with psycopg.connect(postgres.url("administration"), autocommit=True) as administration:
        allow = "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}"
        assert name is not None
        identifier = psycopg.sql.Identifier(name)
        administration.execute(psycopg.sql.SQL(allow).format(identifier, psycopg.sql.SQL("false")))
        administration.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            administration.execute(psycopg.sql.SQL(allow).format(identifier, psycopg.sql.SQL("true")))


def test_without_the_database_calls_are_503_and_recover(postgres: EmbeddedPostgres, service: Service) -> None:
    client = service.client
    tokens = client.log_in()
    principal = client.claims(tokens.access)
    assert principal
    code = client.authorize().parameters["code"]
    with closed(postgres, service):
        for answer in (client.exchange(code), client.refresh(tokens.refresh)):
            assert (answer.status, answer.error) == (503, "service_unavailable")
            assert dict(answer.headers)["retry-after"]
    assert client.refresh(tokens.refresh).status == 0
    assert client.profile(client.log_in().access).status == 0


def test_it_serves_without_redis_and_ends_cleanly_on_sigterm(project: Path, database_url: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TMI_")}
    environment |= {
        "PYTHONPATH": f"{project}{os.pathsep}{project / 'build' / 'stubs'}",
        "TMI_BUILD_MODE": "dev",
        "TMI_DATABASE_URL": database_url,
        "TMI_REDIS_URL": "unix:///nowhere/valkey.sock",
        "TMI_GRPC_PORT": str(free_port()),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.auth"], env=environment, cwd=project, stderr=subprocess.PIPE, text=True
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{environment['TMI_GRPC_PORT']}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            assert AuthClient(channel).authorize().status == 503
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate(timeout=30)
        assert process.returncode == 0
        assert all(line.startswith("{") for line in output.splitlines())
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
