"""The gateway as a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

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


class StartGateway(Protocol):
    """Starts a gateway in front of the echoing services, with these environment variables, and waits for it."""

    def __call__(self, **environment: str) -> Awaitable[tuple[Process, httpx.AsyncClient]]: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def addresses(services: EchoServices) -> dict[str, str]:
    """The variables that name the services."""
    names = ("AUTH", "THREAT_MODEL", "COLLABORATION", "HEALTH")
    return {f"TMI_{name}_ADDRESS": f"127.0.0.1:{services.port}" for name in names}


async def is_ready(client: httpx.AsyncClient, services: EchoServices) -> bool:
    try:
        return (await client.get("/me", headers=services.authorization())).status_code == 200
    except httpx.TransportError:
        return False
