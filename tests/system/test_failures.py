"""Stores that go away and processes that are killed: what was accepted stays, and everything comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import pytest

from deploy.demo.client import Person
from deploy.demo.editor import Editor
from deploy.embedded.stack import Stack
from tests.system.conftest import LogIn, entry, model_with_diagram, node

pytestmark = pytest.mark.anyio


async def eventually(call: Callable[[], Awaitable[httpx.Response]], status: int, timeout: float = 20) -> httpx.Response:
    """Repeats a call until it answers that status."""
    async with asyncio.timeout(timeout):
        while (answer := await call()).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return answer


async def test_without_the_database_requests_are_503_with_retry_after_and_recover(log_in: LogIn, stack: Stack) -> None:
    alice = await log_in("alice")
    threat_model_id, _ = await model_with_diagram(alice)
    path = f"/threat_models/{threat_model_id}"
    await asyncio.to_thread(stack.hold, "postgres", kill=True)
    try:
        for method, where, body in (
            ("GET", path, None),
            ("GET", "/threat_models", None),
            ("POST", "/threat_models", {"name": "Later"}),
            ("GET", "/me", None),
        ):
            answer = await alice.call(method, where, body)
            assert (answer.status_code, answer.json()["error"]) == (503, "service_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        await eventually(lambda: alice.call("GET", "/readyz"), 503)
        assert (await alice.request("GET", "/"))["status"]["code"] == "error"
        assert (await alice.call("GET", "/livez")).status_code == 200
    finally:
        await asyncio.to_thread(stack.release, "postgres")
    await _every_service_answers(alice, stack.gateway_urls)
    assert (await alice.call("GET", path)).status_code == 200
    assert (await alice.call("POST", "/threat_models", {"name": "Now"})).status_code == 201


async def test_without_valkey_reads_and_edits_go_on(log_in: LogIn, stack: Stack) -> None:
    alice, bob = await log_in("alice"), await log_in("bob", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(bob, "writer"))
    path = f"/threat_models/{threat_model_id}/diagrams/{diagram_id}"
    change = {"id": node(1)["id"], "operation": "update", "data": {"id": node(1)["id"], "position": {"x": 7, "y": 7}}}
    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as first,
        Editor("bob", await bob.socket_url(threat_model_id, diagram_id)) as second,
    ):
        await asyncio.to_thread(stack.hold, "valkey", kill=True)
        try:
            assert (await bob.call("GET", path)).status_code == 200
            created = await alice.call("POST", f"/threat_models/{threat_model_id}/threats", {"name": "T"})
            assert created.status_code == 201
            await first.change(change)
            await second.wait_until(lambda: len(second.log.events) == 1)
            await second.change(change)
            await first.wait_until(lambda: len(first.log.events) == 1)
            await eventually(lambda: alice.call("GET", "/readyz"), 200)
        finally:
            await asyncio.to_thread(stack.release, "valkey")
        await first.change(change)
        await second.wait_until(lambda: len(second.log.events) == 2)
        assert (first.log.close_code, second.log.close_code) == (None, None)
    await eventually(lambda: _session_status(alice, threat_model_id, diagram_id), 200)


async def _session_status(person: Person, threat_model_id: str, diagram_id: str) -> httpx.Response:
    return await person.call("POST", f"/threat_models/{threat_model_id}/diagrams/{diagram_id}/collaborate", {})


async def _every_service_answers(person: Person, gateways: list[str]) -> None:
    """Waits until every gateway has found every service again: that takes it up to a second."""
    for gateway in gateways:
        for path in ("/oauth2/providers", "/me", "/threat_models", "/me/sessions", "/readyz"):
            await eventually(partial(person.call, "GET", gateway + path), 200)


@pytest.mark.parametrize(
    "name", ["threat-model", "worker", "auth", "collaboration", "health", "gateway", "postgres", "valkey"]
)
async def test_no_accepted_write_is_lost_when_a_process_is_killed(name: str, log_in: LogIn, stack: Stack) -> None:
    alice = await log_in("alice", gateway=1)
    threat_model_id, _ = await model_with_diagram(alice)
    path = f"/threat_models/{threat_model_id}/threats"
    accepted: list[str] = []
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            answer = await alice.call("POST", path, {"name": f"Threat {len(accepted)}"})
            if answer.status_code == 201:
                accepted.append(answer.json()["id"])
            else:
                assert (answer.status_code, answer.json()["error"]) == (503, "service_unavailable")
                assert "retry-after" in answer.headers

    writer = asyncio.create_task(write())
    while len(accepted) < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    killed = await asyncio.to_thread(stack.kill, name)
    await asyncio.to_thread(stack.wait_replaced, name, 1, killed)
    before = len(accepted)
    async with asyncio.timeout(20):
        while len(accepted) < before + 5:
            assert not writer.done(), writer.exception()
            await asyncio.sleep(0.01)
    stop.set()
    await writer
    await _every_service_answers(alice, stack.gateway_urls)
    stored: set[str] = set()
    while len(stored) < (page := await alice.request("GET", f"{path}?limit=100&offset={len(stored)}"))["total"]:
        stored |= {threat["id"] for threat in page["threats"]}
    assert set(accepted) <= stored
