"""What a connection may do before, beside and after its requests. Real processes, raw sockets."""

import json
import socket
import struct
from contextlib import suppress

import anyio
import anyio.abc
import httpx
import pytest

from gateway.connection_bounds import Bounds
from gateway.http_protocol import MOST_PIPELINED
from services.shared.rpc import Reply
from services.shared.settings import Settings
from tests.gateway.echo_services import EchoServices
from tests.gateway.process import Process, StartGateway

pytestmark = pytest.mark.anyio

HEAD = b"GET /livez HTTP/1.1\r\nHost: a\r\n"


async def _connect(client: httpx.AsyncClient) -> anyio.abc.SocketStream:
    return await anyio.connect_tcp("127.0.0.1", client.base_url.port or 0)


async def _read_to_end(stream: anyio.abc.SocketStream) -> bytes:
    """Everything up to the end of the connection, which has to come."""
    received = b""
    with anyio.fail_after(30), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            received += await stream.receive()
    return received


async def _answer_to(client: httpx.AsyncClient, request: bytes) -> tuple[bytes, dict[str, str]]:
    """Status line and JSON body of the answer with which the connection ends."""
    async with await _connect(client) as stream:
        await stream.send(request)
        head, _, body = (await _read_to_end(stream)).partition(b"\r\n\r\n")
    fields = head.lower().split(b"\r\n")
    assert b"content-type: application/json" in fields
    assert b"connection: close" in fields
    assert b"content-length: %d" % len(body) in fields
    assert b"x-content-type-options: nosniff" in fields
    assert any(field.startswith(b"x-request-id: ") for field in fields)
    assert any(field.startswith(b"date: ") for field in fields)
    return fields[0], json.loads(body)


def _authorized(services: EchoServices) -> bytes:
    token = services.authorization()["Authorization"].encode()
    return b"GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n\r\n" % token


async def _logged(process: Process, text: str) -> None:
    with anyio.fail_after(30):
        while text not in process.stderr:  # noqa: ASYNC110 - what happens elsewhere sets no event here
            await anyio.sleep(0.01)


@pytest.mark.parametrize(
    "request_head",
    [
        HEAD + b"a:b\r\n" * 150,
        HEAD + b"Cookie: " + b"x" * 70_000,
        HEAD + b"Cookie: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        HEAD + b"".join(b"a%d: %s\r\n" % (n, b"x" * 1000) for n in range(80)),
        b"\r\n" * 40_000,
    ],
    ids=["many fields", "endless field", "long field", "long target", "long fields", "nothing but line ends"],
)
async def test_a_head_without_measure_is_431(start_gateway: StartGateway, request_head: bytes) -> None:
    _, client = await start_gateway()
    async with await _connect(client) as kept:
        # A request before it makes no difference: what counts is each head.
        await kept.send(HEAD + b"\r\n")
        assert (await kept.receive()).startswith(b"HTTP/1.1 200")
        await kept.send(request_head)
        assert b"HTTP/1.1 431" in await _read_to_end(kept)
    status, body = await _answer_to(client, request_head)
    assert status.startswith(b"http/1.1 431")
    assert body["error"] == "request_header_fields_too_large"


async def test_what_a_browser_may_send_passes(start_gateway: StartGateway) -> None:
    _, client = await start_gateway()
    headers = {f"X-{n}": "v" for n in range(60)} | {"Cookie": "; ".join(f"c{n}={'v' * 4000}" for n in range(12))}
    for _ in range(3):
        assert (await client.get("/livez", headers=headers)).status_code == 200


async def test_bodies_do_not_count_as_heads(start_gateway: StartGateway, services: EchoServices) -> None:
    _, client = await start_gateway()
    headers = services.authorization() | {"Content-Type": "application/json"}
    for size in (10, 60_000, 200_000, 2_000_000):
        answer = await client.post("/threat_models", content=b'"' + b"x" * size + b'"', headers=headers)
        assert answer.status_code == 201
    large_heads = (HEAD + b"Cookie: " + b"x" * 30_000 + b"\r\n\r\n") * 8
    async with await _connect(client) as stream:
        await stream.send(large_heads + HEAD + b"Connection: close\r\n\r\n")
        assert (await _read_to_end(stream)).count(b"HTTP/1.1 200") == 9


async def test_nonsense_is_400(start_gateway: StartGateway) -> None:
    _, client = await start_gateway()
    for nonsense in (b"nonsense\r\n\r\n", b"GET /livez HTTP/1.1\r\nHo st: a\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n"):
        status, body = await _answer_to(client, nonsense)
        assert (status, body["error"]) == (b"http/1.1 400 bad request", "invalid_request")


async def test_a_head_or_body_that_does_not_end_is_408(start_gateway: StartGateway) -> None:
    _, client = await start_gateway(TMI_HEAD_TIMEOUT_SECONDS="0.3", TMI_BODY_TIMEOUT_SECONDS="0.3")
    post = b"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n1"
    for unfinished in (HEAD, b"G"):
        status, body = await _answer_to(client, unfinished)
        assert (status, body["error"]) == (b"http/1.1 408 request timeout", "request_timeout")
    async with await _connect(client) as stream:
        await stream.send(post)
        assert (await _read_to_end(stream)).startswith(b"HTTP/1.1 408")
    async with await _connect(client) as silent:
        assert await _read_to_end(silent) == b""


async def test_time_does_not_start_again_with_every_byte(start_gateway: StartGateway) -> None:
    _, client = await start_gateway(TMI_HEAD_TIMEOUT_SECONDS="0.5")
    received = b""
    async with await _connect(client) as stream, anyio.create_task_group() as tasks:

        async def drip() -> None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await stream.send(HEAD + b"X: ")
                while True:
                    await stream.send(b"x")
                    await anyio.sleep(0.02)

        tasks.start_soon(drip)
        received = await _read_to_end(stream)
        tasks.cancel_scope.cancel()
    assert received.startswith(b"HTTP/1.1 408")


async def test_a_body_that_nobody_waits_for_ends_as_well(start_gateway: StartGateway) -> None:
    _, client = await start_gateway(TMI_BODY_TIMEOUT_SECONDS="0.2")
    async with await _connect(client) as stream:
        await stream.send(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1")
        received = await _read_to_end(stream)
    assert received.startswith(b"HTTP/1.1 200")
    assert received.count(b"HTTP/1.1") == 1


async def test_trailers_are_no_headers(start_gateway: StartGateway, services: EchoServices) -> None:
    _, client = await start_gateway()
    token = services.authorization()["Authorization"].encode()
    request = b"GET /me HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    async with await _connect(client) as stream:
        await stream.send(request + b"Authorization: " + token + b"\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 401")
    async with await _connect(client) as stream:
        await stream.send(request + b"a: b\r\n" * 200)
        assert not (await _read_to_end(stream)).startswith(b"HTTP/1.1 200")


async def test_few_requests_may_be_pipelined(start_gateway: StartGateway) -> None:
    _, client = await start_gateway()
    async with await _connect(client) as stream:
        await stream.send((HEAD + b"\r\n") * 8 + HEAD + b"Connection: close\r\n\r\n")
        assert (await _read_to_end(stream)).count(b"HTTP/1.1 200") == 9
    async with await _connect(client) as stream:
        await stream.send((HEAD + b"\r\n") * 4000)
        assert (await _read_to_end(stream)).count(b"HTTP/1.1 200") < 40


@pytest.mark.parametrize(
    "spoilt", [b"XX\r\n\r\n", b"get / HTTP/1.1\r\n\r\n", HEAD + b"a:b\r\n" * 150 + b"\r\n", HEAD + b"no colon\r\n\r\n"]
)
async def test_a_request_that_is_refused_takes_no_answer_before_it_along(
    start_gateway: StartGateway, services: EchoServices, spoilt: bytes
) -> None:
    process, client = await start_gateway()
    async with await _connect(client) as stream:
        await stream.send(_authorized(services) * 3 + spoilt)
        received = await _read_to_end(stream)
    assert received.count(b"HTTP/1.1 200") == 3
    assert received.count(b"HTTP/1.1 4") == 1
    assert received.rpartition(b"HTTP/1.1 ")[2].startswith((b"400", b"431"))
    assert '"level":"error"' not in process.stderr


async def test_too_many_requests_at_once_are_refused_after_the_others_were_answered(
    start_gateway: StartGateway, services: EchoServices
) -> None:
    process, client = await start_gateway()
    async with await _connect(client) as stream:
        await stream.send(_authorized(services) * 40)
        received = await _read_to_end(stream)
    assert received.count(b"HTTP/1.1 200") == MOST_PIPELINED + 1
    assert received.rpartition(b"HTTP/1.1 ")[2].startswith(b"429")
    assert '"level":"error"' not in process.stderr


async def test_a_body_that_breaks_behind_others_takes_none_of_their_answers_along(
    start_gateway: StartGateway, services: EchoServices
) -> None:
    process, client = await start_gateway()
    broken = b"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"
    for before in (0, 1, 2):
        async with await _connect(client) as stream:
            await stream.send(_authorized(services) * before + broken)
            received = await _read_to_end(stream)
        assert received.count(b"HTTP/1.1 200") == before
        assert received.rpartition(b"HTTP/1.1 ")[2].startswith(b"400")
    assert '"level":"error"' not in process.stderr


async def test_leaving_while_requests_wait_is_no_error_of_the_server(
    start_gateway: StartGateway, services: EchoServices
) -> None:
    process, client = await start_gateway()
    services.reply = Reply(b'"' + b"x" * 2_000_000 + b'"')
    for _ in range(20):
        async with await _connect(client) as stream:
            stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            await stream.send(_authorized(services) * 12)
            await stream.receive(100)
    assert (await client.get("/livez")).status_code == 200
    assert '"level":"error"' not in process.stderr


async def test_an_answer_that_nobody_reads_is_given_up(start_gateway: StartGateway, services: EchoServices) -> None:
    process, client = await start_gateway(TMI_WRITE_TIMEOUT_SECONDS="0.3")
    services.reply = Reply(b'"' + b"x" * 20_000_000 + b'"')
    request = (
        b"GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n\r\n" % services.authorization()["Authorization"].encode()
    )
    async with await _connect(client) as stream:
        stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await stream.send(request)
        await _logged(process, "answer not read")
        assert len(await _read_to_end(stream)) < 20_000_000
    assert len((await client.get("/me", headers=services.authorization())).content) == 20_000_002


async def test_unread_answers_are_bounded_together(start_gateway: StartGateway, services: EchoServices) -> None:
    process, client = await start_gateway(TMI_MAX_UNREAD_BYTES="30000000")
    services.reply = Reply(b'"' + b"x" * 20_000_000 + b'"')
    request = (
        b"GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n\r\n" % services.authorization()["Authorization"].encode()
    )
    async with await _connect(client) as one, await _connect(client) as other:
        for stream in (one, other):
            stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await stream.send(request)
        await _logged(process, "answer not read")
    assert process.stderr.count("answer not read") == 1


async def test_connections_of_one_address_are_counted(start_gateway: StartGateway) -> None:
    _, client = await start_gateway(TMI_MAX_CONNECTIONS_PER_ADDRESS="4")
    await client.aclose()
    streams = [await _connect(client) for _ in range(4)]
    for stream in streams:
        await stream.send(HEAD + b"\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
    status, body = await _answer_to(client, b"")
    assert (status, body["error"]) == (b"http/1.1 429 too many requests", "too_many_connections")
    for stream in streams:
        await stream.aclose()
    with anyio.fail_after(30):
        while True:
            async with await _connect(client) as stream:
                await stream.send(HEAD + b"\r\n")
                if (await stream.receive()).startswith(b"HTTP/1.1 200"):
                    break


def test_proxies_and_networks_are_counted_as_what_they_are() -> None:
    bounds = Bounds.of(Settings(trusted_proxies=["10.0.0.0/8"], max_connections_per_address=1))
    assert all(bounds.admit("10.1.2.3") for _ in range(5))
    leave = bounds.admit("2001:db8::1")
    assert leave
    assert bounds.admit("2001:db8::ffff") is None
    assert bounds.admit("2001:db8:0:1::1")
    assert bounds.admit("::ffff:192.0.2.1")
    assert bounds.admit("::ffff:192.0.2.2")
    leave()
    assert bounds.admit("2001:db8::2")


HANDSHAKE = (
    b"GET /ws/diagrams/5d0f0c3e-0000-4000-8000-00000000000a?ticket=secret-ticket HTTP/1.1\r\nHost: a\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
)
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize(
    ("handshake", "expected"),
    [
        (HANDSHAKE + KEY + b"Cookie: " + b"x" * 20_000 + b"\r\n\r\n", 500),
        (HANDSHAKE + KEY + b"Sec-WebSocket-Protocol: " + b"x" * 9_000 + b"\r\n\r\n", 431),
        (HANDSHAKE + KEY + b"a: b\r\n" * 110 + b"\r\n", 431),
        ((HANDSHAKE + KEY).replace(b"ticket=", b"ticket=" + b"x" * 9_000) + b"\r\n", 414),
        (HANDSHAKE + b"Sec-WebSocket-Key: short\r\n\r\n", 400),
        ((HANDSHAKE + KEY).replace(b"Version: 13", b"Version: 12") + b"\r\n", 400),
        ((HANDSHAKE + KEY).replace(b"?ticket=secret-ticket", b"") + b"\r\n", 401),
        (HANDSHAKE + KEY + b"Origin: https://evil.example\r\n\r\n", 403),
        ((HANDSHAKE + KEY).replace(b"/ws/", b"/no/") + b"\r\n", 404),
    ],
    ids=["cookies", "long field", "fields", "target", "key", "version", "no ticket", "origin", "path"],
)
async def test_a_refused_handshake_is_answered_and_logged_without_its_ticket(
    start_gateway: StartGateway, handshake: bytes, expected: int
) -> None:
    """The echoing services have no rooms: 500 is the answer of a handshake that reached them."""
    process, client = await start_gateway(TMI_LOG_LEVEL="debug")
    async with await _connect(client) as stream:
        await stream.send(handshake)
        head, _, body = (await _read_to_end(stream)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % expected)
    assert set(json.loads(body)) >= {"error", "error_description"}
    fields = head.lower().split(b"\r\n")
    assert {b"content-type: application/json", b"x-content-type-options: nosniff"} <= set(fields)
    assert "secret-ticket" not in process.stderr
    lines = [json.loads(line) for line in process.stderr.splitlines()]
    assert not [line for line in lines if line["level"] in ("error", "warning")]
    assert [line for line in lines if str(expected) in line["msg"] or line.get("status") == expected]


async def test_a_socket_counts_as_long_as_it_lasts(start_gateway: StartGateway) -> None:
    _, client = await start_gateway(TMI_MAX_CONNECTIONS_PER_ADDRESS="3")
    await client.aclose()
    for _ in range(10):
        with anyio.fail_after(30):
            while True:
                async with await _connect(client) as stream:
                    await stream.send((HANDSHAKE + KEY).replace(b"?ticket=secret-ticket", b"") + b"\r\n")
                    # The connection before may still be counted for a moment.
                    if not (answer := await _read_to_end(stream)).startswith(b"HTTP/1.1 429"):
                        break
        assert answer.startswith(b"HTTP/1.1 401")
