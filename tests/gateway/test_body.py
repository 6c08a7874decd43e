"""Reading bodies from clients that are slow, gone or endless."""

import asyncio
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from gateway.exchange import EXCHANGE_KEY, Exchange
from gateway.middleware import body
from gateway.middleware.body import Admit, BodyBudget, BodyReader
from gateway.responses import ClientDisconnected
from gateway.routes import Operation
from services.shared.errors import ApiError, unauthorized
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


async def _known(_: Exchange) -> None:
    """A caller with a valid token."""


async def _stranger(_: Exchange) -> None:
    raise unauthorized()


async def _read(
    client: _Client,
    *headers: tuple[bytes, bytes],
    timeout: float = 5.0,
    max_bytes: int = 10,
    admit: Admit = _known,
    budget: BodyBudget | None = None,
    operation: Operation = CREATE,
) -> Exchange:
    budget = budget or BodyBudget(1_000_000)
    scope: dict[str, Any] = {"method": "POST", "path": "/threat_models", "headers": list(headers)}
    exchange = scope[EXCHANGE_KEY] = Exchange(scope)
    exchange.operation = operation

    async def done(*_: Any) -> None:
        return None

    async def send(_: Any) -> None:
        raise AssertionError

    reader = BodyReader(done, admit=admit, budget=budget, max_bytes=max_bytes, timeout_seconds=timeout)
    await reader(scope, client, send)
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


KIB = 1024
LOGIN = next(
    Operation(operation) for operation in OPERATIONS if operation.path == "/oauth2/token" and operation.verb == "POST"
)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_stranger_is_refused_when_the_rest_was_dropped(declared: bool) -> None:
    client = _Client(*[_chunk(b"1" * 50 * KIB)] * 5, _chunk(b"", more=False))
    headers = [(b"content-length", b"256000")] if declared else []
    budget = BodyBudget(100 * KIB)
    with pytest.raises(ApiError) as refusal:
        await _read(client, *headers, max_bytes=1000 * KIB, admit=_stranger, budget=budget)
    assert refusal.value.status == 401
    assert client.read == 6
    # All that was kept of it is given back.
    with budget.share() as take:
        take(100 * KIB)


async def test_a_small_body_of_a_stranger_goes_on_to_the_next_stages() -> None:
    exchange = await _read(_Client(_chunk(b"1" * 64 * KIB, more=False)), max_bytes=1000 * KIB, admit=_stranger)
    assert len(exchange.body) == 64 * KIB


async def test_the_last_chunk_may_be_the_one_that_needs_a_token() -> None:
    client = _Client(_chunk(b"1" * 65 * KIB, more=False))
    with anyio.fail_after(10), pytest.raises(ApiError) as refusal:
        await _read(client, max_bytes=1000 * KIB, admit=_stranger)
    assert refusal.value.status == 401


async def test_a_known_caller_sends_what_is_allowed() -> None:
    for headers in ([], [(b"content-length", b"200000")]):
        chunks = [_chunk(b"1" * 100_000), _chunk(b"2" * 100_000, more=False)]
        exchange = await _read(_Client(*chunks), *headers, max_bytes=200_000)
        assert exchange.body == b"1" * 100_000 + b"2" * 100_000


async def test_too_large_comes_before_unknown() -> None:
    client = _Client(*[_chunk(b"1" * 100 * KIB)] * 5, _chunk(b"", more=False))
    with pytest.raises(ApiError) as refusal:
        await _read(client, max_bytes=300 * KIB, admit=_stranger)
    assert refusal.value.status == 413


async def test_an_operation_for_everybody_takes_little() -> None:
    for headers in ([], [(b"content-length", b"70000")]):
        client = _Client(_chunk(b"1" * 70_000), _chunk(b"", more=False))
        with pytest.raises(ApiError) as refusal:
            await _read(client, *headers, max_bytes=1000 * KIB, operation=LOGIN)
        assert refusal.value.status == 413
        assert str(64 * KIB) in refusal.value.message


async def test_a_stranger_who_waits_for_permission_is_told_at_once() -> None:
    client = _Client(_chunk(b"1" * 70_000))
    headers = ((b"content-length", b"70000"), (b"expect", b"100-continue"))
    with pytest.raises(ApiError) as refusal:
        await _read(client, *headers, max_bytes=1000 * KIB, admit=_stranger)
    assert refusal.value.status == 401
    assert client.read == 0


async def test_bodies_of_all_requests_have_one_budget() -> None:
    budget = BodyBudget(150_000)
    with budget.share() as take:
        take(100_000)
        client = _Client(_chunk(b"1" * 60_000), _chunk(b"1" * 10, more=False))
        with pytest.raises(ApiError) as refusal:
            await _read(client, max_bytes=200_000, budget=budget)
        assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (503, "2")
        assert client.read == 2
    exchange = await _read(_Client(_chunk(b"1" * 60_000, more=False)), max_bytes=200_000, budget=budget)
    assert len(exchange.body) == 60_000
