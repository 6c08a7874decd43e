"""The gateway as a process of its own, in front of echoing services."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx

from tests.gateway.echo_services import EchoServices


class Process:
    """`python -m gateway` with its stderr in a file. stubs: a folder with more compiled protos."""

    def __init__(
        self, project: Path, directory: Path, environment: dict[str, str], *, stubs: Path | None = None
    ) -> None:
        self._log = directory / "stderr"
        path = [str(project), str(project / "build/stubs"), *([str(stubs)] if stubs else [])]
        with self._log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "gateway"],
                cwd=project,
                env=os.environ | {"PYTHONPATH": ":".join(path), "TMI_BUILD_MODE": "test"} | environment,
                stderr=output,
            )

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    async def ended(self) -> int:
        with anyio.fail_after(30):
            while (code := self.popen.poll()) is None:  # noqa: ASYNC110 - what happens elsewhere sets no event here
                await anyio.sleep(0.01)
        return code


def unused_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def running(
    services: EchoServices,
    project: Path,
    directory: Path,
    port: int,
    environment: dict[str, str],
    *,
    stubs: Path | None = None,
) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """A gateway that serves, and a client of it."""
    names = ("AUTH", "THREAT_MODEL", "COLLABORATION", "HEALTH")
    addresses = {f"TMI_{name}_ADDRESS": f"127.0.0.1:{services.port}" for name in names}
    own = {"TMI_SERVER_PORT": str(port), "TMI_DRAIN_SECONDS": "1"}
    process = Process(project, directory, addresses | own | environment, stubs=stubs)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            with anyio.fail_after(30):
                while not await _is_ready(client, services):
                    assert process.popen.poll() is None, process.stderr
                    await anyio.sleep(0.02)
            services.calls.clear()
            yield process, client
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


async def _is_ready(client: httpx.AsyncClient, services: EchoServices) -> bool:
    try:
        return (await client.get("/me", headers=services.authorization())).status_code == 200
    except httpx.TransportError:
        return False
