"""The process: how it refuses to start and how it stops."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

pytestmark = pytest.mark.anyio


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def start(project: Path, **environment: str) -> Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TMI_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.collaboration",
        env={**inherited, "PYTHONPATH": f"{project}:{project}/build/stubs", "TMI_BUILD_MODE": "test", **environment},
        cwd=project,
        stderr=asyncio.subprocess.PIPE,
    )


async def last_words(process: Process) -> str:
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    return errors.decode()


async def test_missing_redis_url_is_one_line_that_names_the_setting(project: Path) -> None:
    process = await start(project)
    words = await last_words(process)
    assert process.returncode == 1
    assert words.count("\n") == 1
    assert words.startswith("collaboration: TMI_REDIS_URL")


async def test_unusable_settings_are_one_line(project: Path, redis_url: str) -> None:
    for environment, name in (
        ({"TMI_REDIS_URL": "nonsense"}, "TMI_REDIS_URL"),
        ({"TMI_REDIS_URL": redis_url, "TMI_HOST_GRACE_SECONDS": "soon"}, "TMI_HOST_GRACE_SECONDS"),
    ):
        process = await start(project, **environment)
        words = await last_words(process)
        assert process.returncode == 1
        assert words.count("\n") == 1
        assert name in words


async def test_busy_port_is_one_line_that_names_the_port(project: Path, redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = await start(project, TMI_REDIS_URL=redis_url, TMI_GRPC_PORT=str(port))
        words = await last_words(process)
    assert process.returncode == 1
    assert words.count("\n") == 1
    assert f"127.0.0.1:{port}" in words


async def test_process_serves_and_stops_on_sigterm(project: Path, redis_url: str) -> None:
    port = free_port()
    process = await start(project, TMI_REDIS_URL=redis_url, TMI_GRPC_PORT=str(port))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="tmi.collaboration.v1.Rooms")
        answer = await stub.Check(request, wait_for_ready=True, timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    process.send_signal(signal.SIGTERM)
    words = await last_words(process)
    assert process.returncode == 0
    assert '"msg":"stopped"' in words
    assert "Traceback" not in words
