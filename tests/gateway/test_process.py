"""The gateway as a process: how it starts, serves, refuses to start and stops."""

import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.gateway.echo_services import EchoServices
from tests.gateway.process import Process, StartGateway, free_port
from tests.protos import compiled

pytestmark = pytest.mark.anyio


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
async def gateway(start_gateway: StartGateway, metrics_port: int) -> tuple[Process, httpx.AsyncClient]:
    return await start_gateway(TMI_MAX_BODY_BYTES="100000", TMI_DRAIN_SECONDS="1", TMI_METRICS_PORT=str(metrics_port))


async def test_serves_over_real_sockets_and_stops_when_told(
    gateway: tuple[Process, httpx.AsyncClient], services: EchoServices
) -> None:
    process, client = gateway
    headers = services.authorization()

    get = await client.get("/me", headers=headers)
    head = await client.head("/me", headers=headers)
    assert get.json() == {"ok": True}
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", get.headers["Content-Length"])
    assert "Server" not in get.headers

    assert (await client.request("TRACE", "/me")).status_code == 405
    assert (await client.get("/me/")).status_code == 301
    response = await client.post(
        "/threat_models", content=b'{"a":1}', headers=headers | {"Content-Type": "application/json"}
    )
    assert (response.status_code, services.last.body) == (201, b'{"a":1}')

    process.popen.send_signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert "Traceback" not in process.stderr


async def test_metrics_have_their_own_port(gateway: tuple[Process, httpx.AsyncClient], metrics_port: int) -> None:
    async with httpx.AsyncClient() as client:
        response = await client.get(f"http://127.0.0.1:{metrics_port}/metrics")
    assert 'tmi_http_request_duration_seconds_count{method="GET",route="/me",status="200"}' in response.text


async def test_a_large_body_is_refused_without_losing_the_answer(
    gateway: tuple[Process, httpx.AsyncClient], services: EchoServices
) -> None:
    _, client = gateway
    headers = {"Content-Type": "application/json"}

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 50_000

    for content in (b"x" * 2_000_000, chunks()):
        response = await client.post("/threat_models", content=content, headers=headers)
        assert (response.status_code, response.json()["error"]) == (413, "payload_too_large")
    assert (await client.get("/me", headers=services.authorization())).status_code == 200


async def test_raw_requests_that_http_libraries_would_not_send(gateway: tuple[Process, httpx.AsyncClient]) -> None:
    _, client = gateway
    port = client.base_url.port
    for request, expected in (
        (b"GET /oauth2/providers HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /oauth2/providers HTTP/1.1\r\nHost: a b\r\n\r\n", b"400"),
        (b"GET /oauth2/providers HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /threat_models/%ff HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"BREW /me HTTP/1.1\r\nHost: a\r\n\r\n", b"40"),
        (b"nonsense\r\n\r\n", b"400"),
    ):
        stream = await anyio.connect_tcp("127.0.0.1", port or 0)
        async with stream:
            await stream.send(request)
            assert (await stream.receive()).startswith(b"HTTP/1.1 " + expected)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"TMI_SERVER_PORT": "{busy}"}, r"gateway: cannot listen on 127\.0\.0\.1:\d+ .*in use.*TMI_SERVER_PORT"),
        (
            {"TMI_SERVER_PORT": "{free}", "TMI_METRICS_PORT": "{busy}"},
            r"gateway: cannot serve metrics.*TMI_METRICS_PORT",
        ),
        ({"TMI_SERVER_PORT": "eighty"}, r"gateway: the setting TMI_SERVER_PORT is wrong"),
        ({"TMI_TRUSTED_PROXIES": "10.0.0.0/99"}, r"gateway: the setting TMI_TRUSTED_PROXIES is wrong"),
    ],
    ids=["port", "metrics port", "setting", "proxies"],
)
async def test_a_failure_to_start_is_one_line(
    project: Path,
    tmp_path: Path,
    processes: list[Process],
    environment: dict[str, str],
    reason: str,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy: Any = taken.getsockname()[1]
        filled = {name: value.format(busy=busy, free=free_port()) for name, value in environment.items()}
        process = Process(project, tmp_path, filled)
        processes.append(process)
        assert await process.ended() == 1
    assert re.fullmatch(reason + r".*\n", process.stderr)


async def test_a_declaration_that_cannot_be_followed_is_one_line_before_anything_listens(
    project: Path, tmp_path: Path, processes: list[Process]
) -> None:
    """The proto file is found although nothing names it."""
    file = compiled(
        """
        service Extra {
          rpc Count(Request) returns (google.api.HttpBody) {
            option (google.api.http) = {get: "/extra"};
            option (tmi.options.v1.operation) = {access: ACCESS_ADMIN_STEP_UP};
          }
        }
        message Request {}
        """,
        stubs=tmp_path,
    )
    process = Process(project, tmp_path, {"TMI_SERVER_PORT": "1"}, stubs=tmp_path)
    processes.append(process)
    assert await process.ended() == 1
    assert process.stderr == (
        f"gateway: The declaration of {file.package}.Extra.Count cannot be used: "
        "the access ACCESS_ADMIN_STEP_UP is not implemented.\n"
    )


async def test_readiness_fails_before_anything_else_does(start_gateway: StartGateway, services: EchoServices) -> None:
    process, client = await start_gateway(TMI_SHUTDOWN_DELAY_SECONDS="600", TMI_DRAIN_SECONDS="1")
    assert (await client.get("/readyz")).status_code == 200
    process.popen.send_signal(signal.SIGTERM)
    with anyio.fail_after(30):
        while (await client.get("/readyz")).status_code != 503:
            await anyio.lowlevel.checkpoint()
    async with httpx.AsyncClient(base_url=client.base_url) as newcomer:
        assert (await newcomer.get("/me", headers=services.authorization())).status_code == 200
        assert (await newcomer.get("/livez")).status_code == 200
        assert (await newcomer.get("/readyz")).json()["error"] == "service_unavailable"
    process.popen.send_signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert "Traceback" not in process.stderr


async def test_the_delay_ends_by_itself(start_gateway: StartGateway) -> None:
    process, _ = await start_gateway(TMI_SHUTDOWN_DELAY_SECONDS="0.2", TMI_DRAIN_SECONDS="1")
    process.popen.send_signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert '"stopping"' in process.stderr
