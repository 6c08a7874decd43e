"""The gateway's sockets over real connections: admission, and every way in which a socket ends."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from deploy.embedded.valkey import EmbeddedValkey
from services.shared.settings import Settings
from tests.collaboration.stack import Client, Stack, eventually, principal, running
from tmi.collaboration.v1.relay_pb2 import Ticket

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stack(collaboration_settings: Settings) -> AsyncIterator[Stack]:
    async with running(collaboration_settings, replicas=1) as stack:
        await stack.open_session()
        yield stack


async def refused(url: str, **arguments: Any) -> tuple[int, dict[str, Any], Any]:
    with pytest.raises(InvalidStatus) as raised:
        await connect(url, **arguments)
    response = raised.value.response
    assert response.headers["content-type"] == "application/json"
    return response.status_code, orjson.loads(response.body or b""), response.headers


async def test_both_paths_serve_a_socket(stack: Stack) -> None:
    await stack.connect("alice")
    ticket = await stack.ticket("alice")
    url = f"ws://127.0.0.1:{stack.gateways[0].port}/ws/diagrams/{stack.diagram.diagram_id}?ticket={ticket}"
    client = Client("alice", await connect(url))
    stack.clients.append(client)
    await client.receive("diagram_state")


async def test_unknown_path_is_404(stack: Stack) -> None:
    base = f"ws://127.0.0.1:{stack.gateways[0].port}"
    for path in ("/ws/notifications", "/", "/ws/diagrams", f"/threat_models/{uuid4()}/ws"):
        status, body, _ = await refused(base + path)
        assert (status, body["error"]) == (404, "not_found")


async def test_malformed_ids_are_400(stack: Stack) -> None:
    base = f"ws://127.0.0.1:{stack.gateways[0].port}"
    good = str(uuid4())
    for path in (
        f"/threat_models/x/diagrams/{good}/ws?ticket=t",
        f"/threat_models/{good}/diagrams/{good[:-1]}/ws?ticket=t",
        "/ws/diagrams/{}?ticket=t",
        f"/ws/diagrams/{good}?ticket=t&session_id=x",
    ):
        status, body, _ = await refused(base + path)
        assert (status, body["error"]) == (400, "invalid_id"), path


async def test_missing_unknown_and_used_tickets_are_401(stack: Stack) -> None:
    ticket = await stack.ticket("alice")
    stack.clients.append(Client("alice", await connect(stack.url(ticket))))
    for url in (stack.url(ticket), stack.url("unknown"), stack.url("")):
        status, body, headers = await refused(url)
        assert (status, body["error"]) == (401, "unauthorized")
        assert headers["www-authenticate"].startswith("Bearer")


async def test_bearer_token_does_not_replace_a_ticket(stack: Stack) -> None:
    status, _, _ = await refused(stack.url(""), additional_headers={"Authorization": "Bearer x"})
    assert status == 401


async def test_ticket_of_another_session_is_401_and_used_up(stack: Stack) -> None:
    ticket = await stack.ticket("alice")
    assert stack.diagram.session is not None
    url = stack.url(ticket).replace(stack.diagram.session.session_id, str(uuid4()))
    assert (await refused(url))[0] == 401
    assert (await refused(stack.url(ticket)))[0] == 401


async def test_ticket_for_another_diagram_or_threat_model_is_404(stack: Stack) -> None:
    for known in (stack.diagram.diagram_id, stack.diagram.threat_model_id):
        url = stack.url(await stack.ticket("alice")).replace(known, str(uuid4()))
        status, body, _ = await refused(url)
        assert (status, body["error"]) == (404, "not_found")


async def test_ended_session_is_404_and_not_created_again(stack: Stack) -> None:
    url = stack.url(await stack.ticket("alice"))
    stack.diagram.session = None
    assert (await refused(url))[0] == 404
    assert stack.diagram.session is None


async def test_lost_role_is_403(stack: Stack) -> None:
    url = stack.url(await stack.ticket("bob"))
    del stack.diagram.roles["id-bob"]
    status, body, _ = await refused(url)
    assert (status, body["error"]) == (403, "forbidden")


@pytest.mark.parametrize("origin", ["http://localhost:4200", "http://127.0.0.1:{port}", "https://127.0.0.1:{port}"])
async def test_allowed_and_own_origins_are_accepted(stack: Stack, origin: str) -> None:
    own: Any = origin.format(port=stack.gateways[0].port)
    stack.clients.append(Client("alice", await connect(stack.url(await stack.ticket("alice")), origin=own)))


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:4200.evil.example", "http://localhost", "https://localhost:4200", "null", "http://127.0.0.1"],
)
async def test_other_origins_are_403_and_do_not_use_up_the_ticket(stack: Stack, origin: Any) -> None:
    url = stack.url(await stack.ticket("alice"))
    status, body, _ = await refused(url, origin=origin)
    assert (status, body["error"]) == (403, "forbidden")
    stack.clients.append(Client("alice", await connect(url)))


async def test_sixth_socket_of_a_user_is_429(stack: Stack) -> None:
    for _ in range(5):
        await stack.connect("alice")
    status, body, headers = await refused(stack.url(await stack.ticket("alice")))
    assert (status, body["error"], headers["retry-after"]) == (429, "too_many_connections", "60")
    await stack.clients[0].close()
    await eventually(lambda: len(stack.replicas[0].service.rooms.rooms[0].room.sockets) == 4)  # type: ignore[index]
    await _connects(stack, "alice")


async def test_dead_sockets_of_a_user_make_way_and_living_ones_do_not(stack: Stack) -> None:
    living = [await stack.connect("alice") for _ in range(2)]
    dead = [await stack.connect("alice") for _ in range(3)]
    for client in dead:
        client.connection.transport.pause_reading()  # the machine sleeps: it answers no ping
    await stack.connect("alice")
    await eventually(lambda: len(stack.replicas[0].service.rooms.rooms[0].room.sockets) == 3)  # type: ignore[index]
    for client in living:
        assert client.connection.close_code is None
        await client.send({"message_type": "sync_status_request"})
        await client.receive("sync_status_response")


async def _connects(stack: Stack, name: str) -> None:
    """The place of a socket that has left is free as soon as its replica has told Valkey."""
    async with asyncio.timeout(10):
        while True:
            try:
                await stack.connect(name)
            except InvalidStatus:
                await asyncio.sleep(0.01)
            else:
                return


async def test_fifty_first_socket_of_a_session_is_429(stack: Stack) -> None:
    presence = stack.replicas[0].service.rooms._presence
    assert stack.diagram.session is not None
    for number in range(50):
        await presence.reserve(stack.diagram.session.session_id, principal(f"user-{number}"), f"socket-{number}")
    status, body, headers = await refused(stack.url(await stack.ticket("alice")))
    assert (status, body["error"], headers["retry-after"]) == (429, "session_full", "30")


async def test_no_replica_is_503(stack: Stack) -> None:
    url = stack.url(await stack.ticket("alice"))
    await stack.replicas.pop().kill()
    status, body, headers = await refused(url)
    assert (status, body["error"]) == (503, "service_unavailable")
    assert "retry-after" in headers


async def test_no_valkey_is_503(stack: Stack, valkey: EmbeddedValkey) -> None:
    url = stack.url(await stack.ticket("alice"))
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, lambda: valkey.stop(kill=True))
    try:
        assert (await refused(url))[0] == 503
    finally:
        await loop.run_in_executor(None, valkey.start)


async def test_expired_token_closes_the_socket(stack: Stack) -> None:
    client = await _connect_until(stack, time.time() + 1.5)
    await client.receive("diagram_state")
    assert await client.closed() == (4401, "token expired")


async def test_ticket_of_an_expired_token_is_401(stack: Stack) -> None:
    with pytest.raises(InvalidStatus) as raised:
        await _connect_until(stack, time.time() - 1)
    assert raised.value.response.status_code == 401


async def _connect_until(stack: Stack, expires_at: float) -> Client:
    session = stack.diagram.session
    assert session is not None
    ticket = await stack.replicas[0].service.rooms._tickets.issue(
        Ticket(
            principal=principal("alice", expires_at=int(expires_at)),
            threat_model_id=session.threat_model_id,
            diagram_id=session.diagram_id,
            session_id=session.session_id,
        )
    )
    client = Client("alice", await connect(stack.url(ticket)))
    stack.clients.append(client)
    return client


async def test_revoked_token_closes_the_socket_and_cannot_open_another(stack: Stack) -> None:
    alice, bob = await stack.connect("alice"), await stack.connect("bob")
    url = stack.url(await stack.ticket("alice"))
    stack.revocations.revoke("token-alice")
    assert await alice.closed() == (4401, "token revoked")
    assert (await refused(url))[0] == 401
    assert bob.connection.close_code is None


async def test_message_over_the_second_limit_closes_with_1009(stack: Stack) -> None:
    alice = await stack.connect("alice")
    with suppress(ConnectionClosed):  # while the rest of it is still being sent
        await alice.connection.send("x" * (stack.settings.websocket_close_above_bytes + 1))
    assert (await alice.closed())[0] == 1009


async def test_large_paste_takes_effect_and_a_larger_one_is_rejected_on_an_open_socket(stack: Stack) -> None:
    alice, bob = await stack.connect("alice"), await stack.connect("bob")
    limit = stack.settings.websocket_max_message_bytes
    accepted = await alice.edit(str(uuid4()), label="x" * (limit - 1000))
    rejected = await alice.edit(str(uuid4()), label="x" * limit)
    await alice.send({"message_type": "presenter_selection", "selected_cells": ["x" * limit]})
    await alice.connection.send("x" * (limit + 1))
    after = await alice.edit(str(uuid4()))
    rejection = await alice.receive("operation_rejected")
    assert (rejection["operation_id"], rejection["reason"]) == (rejected, "validation_failed")
    assert (rejection["message"], rejection["requires_resync"]) == (f"The message is larger than {limit} bytes.", False)
    assert (await alice.receive("error"))["error"] == "validation_error"
    await bob.receive("diagram_operation_event", 2)
    assert [event["operation_id"] for event in bob.of("diagram_operation_event")] == [accepted, after]
    assert len(alice.of("error")) == 1, "what is no message at all is not answered"


async def test_characters_that_rest_refuses_are_rejected_and_text_is_stored_in_nfc(stack: Stack) -> None:
    alice, bob = await stack.connect("alice"), await stack.connect("bob")
    cell = str(uuid4())
    rejected = await alice.edit(cell, label="pay\u202epal")
    await alice.edit(cell, label="Cafe\u0301")
    rejection = await alice.receive("operation_rejected")
    assert (rejection["operation_id"], rejection["reason"]) == (rejected, "validation_failed")
    assert "U+202E" in rejection["message"]
    event = await bob.receive("diagram_operation_event")
    assert event["operation"]["cells"][0]["data"]["label"] == "Caf\u00e9"


async def test_binary_frames_are_read_like_text(stack: Stack) -> None:
    alice = await stack.connect("alice")
    await alice.connection.send(b'{"message_type":"sync_status_request"}')
    assert (await alice.receive("sync_status_response"))["update_vector"] == 3


async def test_edit_sent_just_before_leaving_is_not_lost(stack: Stack) -> None:
    await stack.connect("alice")
    bob = await stack.connect("bob")
    stack.sequencer.is_down = True
    operation_id = await bob.edit(str(uuid4()))
    await bob.close()
    stack.sequencer.is_down = False
    await eventually(lambda: operation_id in stack.diagram.by_id)


async def test_client_that_does_not_read_is_closed_or_resynchronised_and_others_are_not_held_up(
    collaboration_settings: Settings,
) -> None:
    collaboration_settings.websocket_queue_messages = 8
    async with running(collaboration_settings, replicas=1) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice"), await stack.connect("bob")
        slow = await stack.connect("carol")
        slow.connection.transport.pause_reading()
        cell = str(uuid4())
        for number in range(1, 201):
            await alice.edit(cell, label="x" * 60_000)
            await bob.receive("diagram_operation_event", number)
        slow.connection.transport.resume_reading()
        code, reason = await slow.closed()
        assert (code, reason) == (4408, "too slow")
        vectors = [event["update_vector"] for event in slow.of("diagram_operation_event")]
        assert vectors == sorted(set(vectors))
