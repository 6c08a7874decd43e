"""The process: one line for what prevents its start, health while it runs, a clean stop."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub


def start(project: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "services.threat_model", *arguments],
        cwd=project,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{project}:{project}/build/stubs", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "TMI_DATABASE_URL"),
        ({"TMI_DATABASE_URL": "oracle://x"}, "'oracle': supported are PostgreSQL"),
        ({"TMI_DATABASE_URL": "sqlite://", "TMI_GRPC_PORT": "many"}, "TMI_GRPC_PORT"),
        ({"TMI_DATABASE_URL": "sqlite://", "TMI_AUDIT_RETENTION_DAYS": "0"}, "TMI_AUDIT_RETENTION_DAYS"),
    ],
)
def test_what_prevents_the_start_is_said_in_one_line(project: Path, environment: dict[str, str], reason: str) -> None:
    process = start(project, **environment)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert stderr.startswith("threat_model: ")
    assert reason in stderr
    assert len(stderr.splitlines()) == 1


def test_a_busy_port_is_said_in_one_line(project: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        database = f"sqlite:///{tmp_path / 'tmi.db'}"
        process = start(project, TMI_DATABASE_URL=database, TMI_GRPC_PORT=str(port), TMI_LOG_LEVEL="error")
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert str(port) in stderr.splitlines()[-1]
    assert "Traceback" not in stderr


def test_it_serves_and_stops_on_sigterm(project: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'tmi.db'}"
    migration = start(project, "migrate", TMI_DATABASE_URL=database)
    migration.communicate(timeout=30)
    assert migration.returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start(project, TMI_DATABASE_URL=database, TMI_GRPC_PORT=str(port))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = HealthCheckRequest(service="tmi.threat_model.v1.ThreatModels")
        answer = HealthStub(channel).Check(request, wait_for_ready=True, timeout=30)
    assert answer.status == HealthCheckResponse.SERVING
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
