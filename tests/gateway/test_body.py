"""Reading bodies from clients that are slow, gone or endless."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.exchange import EXCHANGE_KEY, Exchange
from gateway.middleware import body
from gateway.middleware.body import BodyReader
from gateway.responses import ClientDisconnected
from gateway.routes import Operation
from services.shared.errors import ApiError
from tests.gateway.echo_services import OPERATIONS

pytestmark = pytest.mark.anyio

CREATE = next(Operation(operation) for operation in OPERATIONS if operation.method.name == "CreateThreatModel")


class _Client:
    """Sends the messages, then nothing more for ever."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages: Iterator[dict[str, Any]] = iter(messages)
        self.read = 0

    async def __call__(self) -> dict[str, Any]:
        for message in self._messages:
            self.read += 1
            return message
        await asyncio.Event().wait()
        raise AssertionError


def _chunk(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


DISCONNECT = {"type": "http.disconnect"}


async def _read(client: _Client, *headers: tuple[bytes, bytes], timeout: float = 5.0) -> Exchange:
    scope: dict[str, Any] = {"method": "POST", "path": "/threat_models", "headers": list(headers)}
    exchange = scope[EXCHANGE_KEY] = Exchange(scope)
    exchange.operation = CREATE

    async def done(*_: Any) -> None:
        return None

    async def send(_: Any) -> None:
        raise AssertionError

    await BodyReader(done, max_bytes=10, timeout_seconds=timeout)(scope, client, send)
    return exchange


async def test_chunks_are_joined() -> None:
    exchange = await _read(_Client(_chunk(b"123"), _chunk(b""), _chunk(b"456", more=False)))
    assert exchange.body == b"123456"


async def test_a_client_that_goes_away_gets_no_answer() -> None:
    with pytest.raises(ClientDisconnected):
        await _read(_Client(_chunk(b"123"), DISCONNECT))
    with pytest.raises(ClientDisconnected):
        await _read(_Client(_chunk(b"1" * 11), DISCONNECT))


async def test_a_slow_body_is_a_timeout() -> None:
    with pytest.raises(ApiError) as refusal:
        await _read(_Client(_chunk(b"123")), timeout=0.01)
    assert (refusal.value.status, refusal.value.code) == (408, "request_timeout")


async def test_what_is_left_of_a_large_body_is_dropped() -> None:
    for headers in ([], [(b"content-length", b"24")]):
        client = _Client(_chunk(b"1" * 12), _chunk(b"1" * 12, more=False))
        with pytest.raises(ApiError) as refusal:
            await _read(client, *headers)
        assert refusal.value.status == 413
        assert client.read == 2


async def test_an_endless_or_stuck_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "DISCARDED_BYTES", 30)
    monkeypatch.setattr(body, "DISCARDING_SECONDS", 0.01)
    endless = _Client(*[_chunk(b"1" * 12)] * 100)
    stuck = _Client(_chunk(b"1" * 12))
    for client in (endless, stuck):
        with pytest.raises(ApiError) as refusal:
            await _read(client)
        assert refusal.value.status == 413
    assert endless.read == 4


async def test_a_client_that_waits_for_permission_does_not_get_it() -> None:
    client = _Client(_chunk(b"1" * 12))
    with pytest.raises(ApiError):
        await _read(client, (b"content-length", b"12"), (b"expect", b"100-continue"))
    assert client.read == 0
