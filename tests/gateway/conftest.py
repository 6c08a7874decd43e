"""The gateway in the test's process, in front of echoing services."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from gateway.app import serving
from gateway.routes import Routes
from tests.gateway.echo_services import EchoServices
from tests.gateway.process import Process, StartGateway, addresses, free_port, is_ready

ClientFactory = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
async def services() -> AsyncIterator[EchoServices]:
    echo = EchoServices()
    await echo.start()
    yield echo
    await echo.stop()


@pytest.fixture
def open_client(services: EchoServices) -> ClientFactory:
    """Opens a gateway with the given settings and a client of it. `ready=False` does not wait for its keys."""

    @asynccontextmanager
    async def open_it(
        *, ready: bool = True, peer: str = "127.0.0.1", **changes: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        async with serving(services.settings(**changes), Routes(services.operations)) as app:
            transport = httpx.ASGITransport(app, client=(peer, 50000), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
                if ready:
                    await wait_until_ready(client, services)
                yield client

    return open_it


@pytest.fixture
async def client(open_client: ClientFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client() as opened:
        yield opened


async def wait_until_ready(client: httpx.AsyncClient, services: EchoServices) -> None:
    """Waits until the gateway can check tokens."""
    with anyio.fail_after(10):
        while (await client.get("/me", headers=services.authorization())).status_code == 503:
            await anyio.lowlevel.checkpoint()
    services.calls.clear()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


@pytest.fixture
async def start_gateway(
    services: EchoServices, project: Path, tmp_path: Path, processes: list[Process]
) -> AsyncIterator[StartGateway]:
    async with AsyncExitStack() as clients:

        async def start(**environment: str) -> tuple[Process, httpx.AsyncClient]:
            port = free_port()
            process = Process(project, tmp_path, addresses(services) | {"TMI_SERVER_PORT": str(port)} | environment)
            processes.append(process)
            client = await clients.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}"))
            with anyio.fail_after(30):
                while not await is_ready(client, services):
                    assert process.popen.poll() is None, process.stderr
                    await anyio.sleep(0.02)
            services.calls.clear()
            return process, client

        yield start
