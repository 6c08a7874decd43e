"""From an HTTP request to a call and back."""

import asyncio
import gzip
from collections.abc import Awaitable
from typing import Any

import anyio
import grpc
import httpx
import orjson
import pytest

from gateway import compression, transcoding
from gateway.app import serving
from gateway.routes import Routes
from services.shared.errors import ApiError, unavailable
from services.shared.rpc import Reply
from tests.gateway.conftest import ClientFactory, wait_until_ready
from tests.gateway.echo_services import OPERATIONS, EchoServices
from tmi.threat_model.v1.threat_models_pb2 import DESCRIPTOR

pytestmark = pytest.mark.anyio

ID = "5d0f0c3e-0000-4000-8000-00000000000a"
TM = f"/threat_models/{ID}"
THREAT = f"{TM}/threats/{ID}"
LARGE = orjson.dumps({"a": "threat " * 1000})


async def test_a_request_becomes_a_message_and_its_reply_the_answer(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    services.reply = Reply(
        b'{"id":1}',
        status=200,
        headers=[("Location", "/x"), ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"), ("ETag", '"7"')],
    )
    response = await client.patch(
        TM,
        content=b'[{"op":"test"}]',
        headers=services.authorization() | {"Content-Type": "application/json-patch+json", "If-Match": '"6"'},
    )
    assert (response.status_code, response.json()) == (200, {"id": 1})
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Location"] == "/x"
    assert response.headers["ETag"] == '"7"'
    assert response.headers.get_list("Set-Cookie") == ["a=1; Path=/", "b=2"]
    assert services.last.request["threat_model_id"] == ID
    assert services.last.request["if_match"] == '"6"'
    assert services.last.request["body"]["content_type"] == "application/json-patch+json"
    assert services.last.body == b'[{"op":"test"}]'


async def test_the_reply_may_choose_its_status(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.reply = Reply(b"{}", status=200)
    headers = services.authorization() | {"Content-Type": "application/json"}
    assert (await client.post("/threat_models", content=b"{}", headers=headers)).status_code == 200
    services.reply = Reply()
    response = await client.delete(TM, headers=services.authorization())
    assert response.status_code == 204
    assert "Content-Length" not in response.headers
    assert "Content-Type" not in response.headers


# Conditional reads


@pytest.mark.parametrize(
    ("if_none_match", "expected"),
    [
        ('"5"', 304),
        ('W/"5"', 304),
        ("*", 304),
        ('"4", "5"', 304),
        ('"5-gzip"', 304),  # what a compressing proxy makes of it
        ('W/"5-br"', 304),
        ('"4", "5;gzip"', 304),
        ('"5--gzip"', 304),
        ('"4"', 200),
        ('"4-gzip"', 200),
        ('"5-lzma"', 200),
        ("5-gzip", 200),
        ("5", 200),
        ("", 200),
    ],
)
async def test_a_client_that_has_the_answer_gets_304(
    client: httpx.AsyncClient, services: EchoServices, if_none_match: str, expected: int
) -> None:
    services.reply = Reply(b'{"a":1}', headers=[("etag", '"5"')])
    for method in ("GET", "HEAD"):
        response = await client.request(
            method, THREAT, headers=services.authorization() | {"If-None-Match": if_none_match}
        )
        assert response.status_code == expected
        assert response.headers["ETag"] == '"5"'
        assert (response.content == b"") == (expected == 304 or method == "HEAD")
        assert ("Content-Length" in response.headers) == (expected == 200)


async def test_only_a_successful_read_can_be_not_modified(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.reply = Reply(b"{}", status=201, headers=[("etag", '"5"')])
    assert (await client.get(THREAT, headers=services.authorization() | {"If-None-Match": "*"})).status_code == 201
    services.reply = Reply(b"{}")
    assert (await client.get(THREAT, headers=services.authorization() | {"If-None-Match": "*"})).status_code == 200
    headers = services.authorization() | {"If-None-Match": "*", "Content-Type": "application/json"}
    services.reply = Reply(b"{}", status=200, headers=[("etag", '"5"')])
    assert (await client.put(THREAT, content=b"{}", headers=headers)).status_code == 200


async def test_an_answer_that_embeds_others_is_never_not_modified(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    services.reply = Reply(b"{}", headers=[("etag", '"5"')])
    response = await client.get(TM, headers=services.authorization() | {"If-None-Match": '"5"'})
    assert (response.status_code, response.headers["ETag"]) == (200, '"5"')


# Compression


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("br", False),
        ("", False),
    ],
)
async def test_large_json_is_compressed_for_who_accepts_it(
    client: httpx.AsyncClient, services: EchoServices, accept_encoding: str, compressed: bool
) -> None:
    services.reply = Reply(LARGE, headers=[("etag", '"5"')])
    headers = services.authorization() | {"Accept-Encoding": accept_encoding}
    async with client.stream("GET", TM, headers=headers) as response:
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert ("Content-Encoding" in response.headers) == compressed
    assert (gzip.decompress(raw) if compressed else raw) == LARGE
    assert int(response.headers["Content-Length"]) == len(raw)
    assert "Accept-Encoding" in response.headers.get_list("Vary")
    assert response.headers["ETag"] == '"5"'


async def test_what_is_small_secret_or_not_text_is_not_compressed(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    for reply in (
        Reply(b'{"a":1}'),
        Reply(LARGE, headers=[("Set-Cookie", "a=1")]),
        Reply(LARGE, content_type="image/png"),
    ):
        services.reply = reply
        response = await client.get(TM, headers=services.authorization() | {"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in response.headers


async def test_very_large_bodies_are_compressed_as_well() -> None:
    body = LARGE * 100
    assert gzip.decompress(await compression.gzip(body)) == body


# Failures of services


async def test_a_service_that_is_down_is_503(client: httpx.AsyncClient, services: EchoServices) -> None:
    headers = services.authorization()
    await client.get("/me", headers=headers)
    await services.stop()
    for method in ("GET", "DELETE"):
        response = await client.request(method, TM, headers=headers)
        assert (response.status_code, response.json()["error"]) == (503, "service_unavailable")
        assert response.headers["Retry-After"]


async def test_a_service_that_says_unavailable_is_not_asked_again(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    services.error = unavailable("no database", retry_after_seconds=7)
    response = await client.get(TM, headers=services.authorization())
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    assert len(services.calls) == 1


async def test_a_read_is_tried_again_when_the_connection_failed_a_write_never(services: EchoServices) -> None:
    failing = _FailingThreatModels()
    await failing.start()
    settings = services.settings().model_copy(update={"threat_model_address": [f"127.0.0.1:{failing.port}"]})
    async with (
        serving(settings, Routes(OPERATIONS)) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test") as client,
    ):
        await wait_until_ready(client, services)
        headers = services.authorization()
        assert (await client.get(TM, headers=headers)).status_code == 200
        assert failing.calls == ["GetThreatModel", "GetThreatModel"]
        failing.calls.clear()
        assert (await client.delete(TM, headers=headers)).status_code == 503
        assert failing.calls == ["DeleteThreatModel"]
    await failing.server.stop(None)


class _FailingThreatModels:
    """Breaks off the first call of each kind without the words of a service, as a dying connection does."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.server = grpc.aio.server()
        self.port = 0

    async def start(self) -> None:
        def handler(name: str) -> Any:
            async def handle(_: bytes, context: Any) -> bytes:
                self.calls.append(name)
                if self.calls.count(name) == 1:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
                return b""

            return grpc.unary_unary_rpc_method_handler(handle)

        service = DESCRIPTOR.services_by_name["ThreatModels"]
        handlers = {method.name: handler(method.name) for method in service.methods}
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()


async def test_a_call_has_a_deadline(open_client: ClientFactory, services: EchoServices) -> None:
    async with open_client(request_timeout_seconds=0.2) as client:
        _hang(services)
        response = await client.get("/oauth2/providers")
        assert (response.status_code, response.json()["error"]) == (503, "service_unavailable")


async def test_a_call_ends_when_its_client_has_gone(services: EchoServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcoding, "WATCH_AFTER_SECONDS", 0.01)
    cancelled = _hang(services)
    gone = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/oauth2/providers",
        "query_string": b"",
        "headers": [(b"host", b"a")],
    }
    async with serving(services.settings(), Routes(OPERATIONS)) as app:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_run, app(scope, receive, send))
                while not services.calls:
                    await anyio.lowlevel.checkpoint()
                gone.set()
            await cancelled.wait()
    assert sent == []


async def _run(request: Awaitable[None]) -> None:
    await request


def _hang(services: EchoServices) -> asyncio.Event:
    """Lets every call hang until it is cancelled; the event tells that it was."""
    cancelled = asyncio.Event()
    forever = asyncio.Event()

    async def wait() -> None:
        try:
            await forever.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    services.before_reply = wait
    return cancelled


# The root


async def test_the_root_answers_what_the_health_service_says(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.reply = Reply(b'{"status":{"code":"degraded"}}')
    assert (await client.get("/")).json() == {"status": {"code": "degraded"}}


@pytest.mark.parametrize("operator", [{}, {"operator_name": "Ops", "operator_contact": "ops@example.com"}])
async def test_the_root_is_200_even_without_a_health_service(
    open_client: ClientFactory, services: EchoServices, operator: dict[str, str]
) -> None:
    await services.stop()
    async with open_client(ready=False, build_commit="abcdef0123456", **operator) as client:
        response = await client.get("/")
        assert response.status_code == 200
        info = response.json()
        assert set(info) == {"status", "service", "api"} | ({"operator"} if operator else set())
        assert info["status"]["code"] == "error"
        assert info["service"]["build"].endswith("-abcdef0")
        assert info["api"]["specification"] == "http://gateway.test/openapi.json"
        assert (await client.head("/")).status_code == 200
        page = await client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.headers["Content-Type"].startswith("text/html")
        assert "&quot;error&quot;" in page.text
        assert (await client.get("/readyz")).status_code == 503


async def test_the_root_is_200_even_when_the_health_service_fails(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    for failure in (RuntimeError("bug"), unavailable("no")):
        services.error = failure
        response = await client.get("/")
        assert (response.status_code, response.json()["status"]["code"]) == (200, "error")


async def test_a_bad_request_to_the_root_is_told(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.error = ApiError(400, "invalid_input", "no")
    assert (await client.get("/")).status_code == 400


# What services learn about the request


async def test_services_learn_the_public_url(open_client: ClientFactory, services: EchoServices) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "tmi.example", "X-Forwarded-Prefix": "/api"}

    async def seen(headers: dict[str, str], **settings: Any) -> str:
        async with open_client(ready=False, **settings) as client:
            assert (await client.get("/oauth2/providers", headers=headers)).status_code == 200
        return services.last.call.public_url

    assert await seen({}) == "http://gateway.test"
    assert await seen(forwarded) == "http://gateway.test"
    assert await seen(forwarded, trusted_proxies=["127.0.0.0/8"]) == "https://tmi.example/api"
    assert await seen(forwarded, public_url="https://fixed.example/") == "https://fixed.example"
