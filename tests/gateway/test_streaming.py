"""Streamed answers through a real gateway process and a real gRPC service."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import grpc
import httpx
import pytest

from services.shared import rpc
from services.shared.access import READER
from services.shared.errors import conflict
from services.shared.operations import http_operations
from services.shared.principal import Call
from services.shared.rpc import Stream
from services.shared.startup import CannotStart
from tests.gateway.echo_services import OPERATIONS, EchoServices
from tests.gateway.process import Process, addresses, free_port, is_ready
from tests.protos import compiled

pytestmark = pytest.mark.anyio

DEFINITIONS = """
service Events {
  rpc Watch(WatchRequest) returns (stream google.api.HttpBody) {
    option (google.api.http) = {get: "/events/{threat_model_id}"};
    option (tmi.options.v1.operation) = {access: ACCESS_READER, produces: ["text/event-stream"]};
  }
  rpc Ask(AskRequest) returns (stream google.api.HttpBody) {
    option (google.api.http) = {post: "/questions", body: "body"};
    option (tmi.options.v1.operation) = {access: ACCESS_PUBLIC, success_status: 201, produces: ["text/event-stream"]};
  }
}
message WatchRequest {
  string threat_model_id = 1 [(tmi.options.v1.parameter).format = FORMAT_UUID];
}
message AskRequest {
  google.api.HttpBody body = 1;
}
"""
PATH = "/events/5d0f0c3e-0000-4000-8000-00000000000a"


@dataclass
class Source:
    """What the service does: the test puts in chunks and errors, and sees when the stream ended."""

    queue: "asyncio.Queue[bytes | Exception | None]" = field(default_factory=asyncio.Queue)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    forgets_role: bool = False
    is_endless: bool = False
    sent: int = 0
    answer: dict[str, Any] = field(default_factory=dict)

    async def watch(self, _request: Any, call: Call) -> Stream:
        self.started.set()
        if not self.forgets_role:
            call.require(READER)
        return Stream(self._endless() if self.is_endless else self._chunks(), **self.answer)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed.set()

    async def _endless(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 1_000_000
                self.sent += 1
        finally:
            self.closed.set()


@dataclass
class World:
    services: EchoServices
    process: Process
    client: httpx.AsyncClient
    source: Source = field(default_factory=Source)

    def stream(self, method: str = "GET", path: str = PATH, **options: Any) -> Any:
        headers = self.services.authorization() | options.pop("headers", {})
        return self.client.stream(method, path, headers=headers, timeout=20, **options)


@pytest.fixture(scope="module")
async def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One gateway for all tests with the same settings."""
    stubs = tmp_path_factory.mktemp("stubs")

    async def watch(watch_request: Any, call: Call) -> Stream:
        return await served.source.watch(watch_request, call)

    operations = [*OPERATIONS, *http_operations([compiled(DEFINITIONS, stubs=stubs)])]
    services = EchoServices(operations=operations, handlers={"Watch": watch, "Ask": watch})
    await services.start()
    environment: dict[str, str] = getattr(request, "param", {})
    project = Path(__file__).parents[2]
    port = free_port()
    own = {"TMI_SERVER_PORT": str(port), "TMI_DRAIN_SECONDS": "1"}
    process = Process(project, stubs, addresses(services) | own | environment, stubs=stubs)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            with anyio.fail_after(30):
                while not await is_ready(client, services):
                    assert process.popen.poll() is None, process.stderr
                    await anyio.sleep(0.02)
            served = World(services, process, client)
            yield served
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()
    await services.stop()


@pytest.fixture
def world(gateway: World) -> World:
    gateway.source = Source()
    gateway.services.before_reply = None
    return gateway


SHORT_REQUESTS = pytest.mark.parametrize("gateway", [{"TMI_REQUEST_TIMEOUT_SECONDS": "1"}], indirect=True)
SHORT_SILENCE = pytest.mark.parametrize("gateway", [{"TMI_STREAM_IDLE_TIMEOUT_SECONDS": "0.5"}], indirect=True)


async def test_chunks_arrive_one_by_one_as_they_are_made(world: World) -> None:
    with anyio.fail_after(20):
        world.source.queue.put_nowait(b"data: 1\n\n" * 1000)
        async with world.stream(headers={"Accept-Encoding": "gzip", "Accept": "text/event-stream"}) as response:
            assert response.status_code == 200
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["Transfer-Encoding"] == "chunked"
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["Cache-Control"].startswith("no-store")
            for absent in ("Content-Length", "Content-Encoding", "ETag"):
                assert absent not in response.headers
            chunks = response.aiter_raw()
            received = b""
            while len(received) < 9000:
                received += await anext(chunks)
            assert received == b"data: 1\n\n" * 1000
            for number in range(3):
                world.source.queue.put_nowait(b"data: %d\n\n" % number)
                assert await anext(chunks) == b"data: %d\n\n" % number
            world.source.queue.put_nowait(None)
            assert [chunk async for chunk in chunks] == []
        await world.source.closed.wait()


async def test_an_empty_first_chunk_begins_the_answer(world: World) -> None:
    world.source.answer = {
        "status": 203,
        "headers": [("X-Kind", "two"), ("X-Kind", "values")],
        "content_type": "text/plain",
    }
    with anyio.fail_after(20):
        world.source.queue.put_nowait(b"")
        async with world.stream() as response:
            assert (response.status_code, response.headers["Content-Type"]) == (203, "text/plain")
            assert response.headers.get_list("X-Kind") == ["two", "values"]
            world.source.queue.put_nowait(None)
            assert await response.aread() == b""


async def test_a_stream_without_chunks_is_an_empty_answer(world: World) -> None:
    world.source.answer = {"headers": [("X-Kind", "none")]}
    world.source.queue.put_nowait(None)
    async with world.stream("POST", "/questions", json={"a": 1}) as response:
        assert (response.status_code, await response.aread()) == (201, b"")
        assert response.headers["X-Kind"] == "none"


async def test_head_is_answered_without_a_stream(world: World) -> None:
    world.source.queue.put_nowait(b"data: 1\n\n")
    response = await world.client.head(PATH, headers=world.services.authorization(), timeout=20)
    assert (response.status_code, response.content) == (200, b"")
    with anyio.fail_after(20):
        await world.source.closed.wait()


async def test_an_error_before_the_first_chunk_is_an_ordinary_answer(world: World) -> None:
    world.source.queue.put_nowait(conflict("Not now."))
    async with world.stream() as response:
        await response.aread()
        assert (response.status_code, response.json()["error_description"]) == (409, "Not now.")
        assert response.headers["Content-Type"] == "application/json"
    assert world.source.closed.is_set()


async def test_a_forgotten_role_is_never_answered(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.source.forgets_role = True
    world.source.queue.put_nowait(b"secret")
    with caplog.at_level(logging.ERROR):
        async with world.stream() as response:
            await response.aread()
            assert (response.status_code, response.json()["error"]) == (500, "server_error")
    assert world.source.queue.qsize() == 1
    assert [record.__dict__["method"] for record in caplog.records if record.exc_info] == [
        next(each.method.full_name for each in world.services.operations if each.operation_id == "watch")
    ]


async def test_what_is_wrong_with_the_request_or_its_caller_is_told_as_ever(world: World) -> None:
    authorized = world.services.authorization()
    assert (await world.client.get(PATH)).status_code == 401
    assert (await world.client.get("/events/x", headers=authorized)).status_code == 400
    assert (await world.client.get(PATH, headers=authorized | {"Accept": "text/csv"})).status_code == 406
    assert (await world.client.put(PATH, headers=authorized)).status_code == 405
    assert not world.source.started.is_set()


async def test_an_error_in_the_middle_breaks_the_answer_off(world: World) -> None:
    with anyio.fail_after(20):
        world.source.queue.put_nowait(b"data: 1\n\n")
        async with world.stream() as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"data: 1\n\n"
            world.source.queue.put_nowait(conflict("Later."))
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(chunks)
    assert "answer broken off" in world.process.stderr
    assert "Traceback" not in world.process.stderr


@pytest.mark.parametrize("chunks", [0, 1])
async def test_the_call_is_cancelled_when_the_client_goes(world: World, chunks: int) -> None:
    """Before the first chunk as well as after it."""

    async def wait_for_the_answer() -> None:
        async with world.stream() as response:
            began.set()
            await response.aread()

    began = asyncio.Event()
    for _ in range(chunks):
        world.source.queue.put_nowait(b"data: 1\n\n")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_the_answer)
            await world.source.started.wait()
            if chunks:
                await began.wait()
            assert not world.source.closed.is_set()
            tasks.cancel_scope.cancel()
        await world.source.closed.wait()


@SHORT_REQUESTS
async def test_the_first_chunk_has_the_time_of_a_request(world: World) -> None:
    async with world.stream() as response:
        await response.aread()
        assert (response.status_code, response.json()["error"]) == (503, "service_unavailable")
        assert "Retry-After" in response.headers
    with anyio.fail_after(20):
        await world.source.closed.wait()


@SHORT_REQUESTS
async def test_a_stream_outlives_the_deadline_of_requests(world: World) -> None:
    with anyio.fail_after(20):
        world.source.queue.put_nowait(b"before")
        async with world.stream() as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"before"
            world.services.before_reply = anyio.sleep_forever
            assert (await world.client.get("/oauth2/providers", timeout=20)).status_code == 503
            world.source.queue.put_nowait(b"after")
            assert await anext(chunks) == b"after"
            world.source.queue.put_nowait(None)
            assert [chunk async for chunk in chunks] == []


@SHORT_SILENCE
async def test_silence_ends_a_stream(world: World) -> None:
    with anyio.fail_after(20):
        world.source.queue.put_nowait(b"data: 1\n\n")
        async with world.stream() as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"data: 1\n\n"
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(chunks)
        await world.source.closed.wait()


@SHORT_SILENCE
async def test_a_client_that_reads_nothing_slows_the_service_down_and_then_loses_the_stream(world: World) -> None:
    world.source.is_endless = True
    with anyio.fail_after(30):
        async with world.stream() as response:
            chunks = response.aiter_raw(1000)
            await anext(chunks)
            await world.source.closed.wait()
            assert world.source.sent < 100
            with pytest.raises(httpx.RemoteProtocolError):
                [chunk async for chunk in chunks]


@pytest.mark.parametrize(
    ("definition", "asynchronous"),
    [
        ("rpc Do(Request) returns (stream Request)", True),
        ("rpc Do(stream Request) returns (Request)", True),
        ("rpc Do(Request) returns (stream Request)", False),
        ("rpc Do(stream Request) returns (stream Request)", False),
    ],
)
async def test_other_kinds_of_streaming_stop_the_start(definition: str, asynchronous: bool) -> None:
    service = compiled(f"service Example {{ {definition}; }} message Request {{}}").services_by_name["Example"]

    async def handle(_request: Any, _call: Call) -> Any:
        raise AssertionError("reached")

    add, server = (rpc.add_async_service, grpc.aio.server()) if asynchronous else (rpc.add_service, None)
    bind: Any = add
    with pytest.raises(CannotStart, match=r"Example\.Do streams"):
        bind(server, service, {"Do": handle})
