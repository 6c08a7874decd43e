"""Several replicas and gateways with real sockets, gRPC and Valkey."""

import asyncio
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from deploy.embedded.valkey import EmbeddedValkey
from gateway.sockets.delivery import RoomDelivery
from services.collaboration.live_room import CANNOT_GO_ON, DIAGRAM_GONE
from services.collaboration.room import Room
from services.shared.settings import Settings
from tests.collaboration.stack import Client, Stack, eventually, running
from tmi.collaboration.v1 import sessions_pb2
from tmi.threat_model.v1.sequencer_pb2 import ROLE_READER

pytestmark = pytest.mark.anyio


def cell() -> str:
    return str(uuid4())


async def test_two_people_edit_through_two_gateways_and_two_replicas(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice", 0), await stack.connect("bob", 1)
        first = await alice.edit(cell(), label="one")
        event = await bob.receive("diagram_operation_event")
        assert event["operation_id"] == first
        assert event["update_vector"] == 4
        assert event["sequence_number"] == 1
        assert event["initiating_user"]["provider_id"] == "alice"
        second = await bob.edit(cell(), label="two")
        event = await alice.receive("diagram_operation_event")
        assert (event["operation_id"], event["update_vector"]) == (second, 5)
        assert len(alice.of("diagram_operation_event")) == 1, "the sending socket is not echoed"
        assert len({id(replica) for replica in stack.replicas if list(replica.service.rooms.rooms)}) == 2


async def test_state_comes_first_then_participants_with_true_roles(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice = await stack.connect("alice", 0)
        carol = await stack.connect("carol", 1)
        assert [message["message_type"] for message in carol.messages[:2]] == ["diagram_state", "participants_update"]
        state = carol.messages[0]
        assert state == {
            "message_type": "diagram_state",
            "diagram_id": stack.diagram.diagram_id,
            "update_vector": 3,
            "cells": [],
        }
        await eventually(lambda: len(carol.of("participants_update")[-1]["participants"]) == 2)
        await eventually(lambda: len(alice.of("participants_update")[-1]["participants"]) == 2)
        for client in (alice, carol):
            update = client.of("participants_update")[-1]
            roles = {entry["user"]["provider_id"]: entry["permissions"] for entry in update["participants"]}
            assert roles == {"alice": "writer", "carol": "reader"}
            assert update["initiating_user"] is None
            assert update["host"]["provider_id"] == update["current_presenter"]["provider_id"] == "alice"


async def test_rooms_sockets_and_operations_are_counted(collaboration_settings: Settings) -> None:
    def sample(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    async with running(collaboration_settings, replicas=1, gateways=1) as stack:
        before = sample("tmi_collaboration_operations_total", outcome="accepted")
        await stack.open_session()
        alice, _ = await stack.connect("alice"), await stack.connect("bob")
        await alice.edit(cell())
        await eventually(lambda: stack.diagram.vector == 4)
        await eventually(lambda: sample("tmi_collaboration_operations_total", outcome="accepted") == before + 1)
        assert (sample("tmi_collaboration_rooms"), sample("tmi_collaboration_sockets")) == (1, 2)


async def test_killed_replica_is_not_noticed_and_loses_nothing(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=1) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice"), await stack.connect("bob")
        await _edit_while(stack, [alice, bob], lambda: _kill_the_replica_in_use(stack))
        for client in (alice, bob):
            assert len(client.of("diagram_state")) == 1


async def _kill_the_replica_in_use(stack: Stack) -> None:
    used = next(replica for replica in stack.replicas if list(replica.service.rooms.rooms))
    stack.replicas.remove(used)
    await used.kill()


async def test_valkey_may_stop_and_come_back(collaboration_settings: Settings, valkey: EmbeddedValkey) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice", 0), await stack.connect("bob", 1)
        loop = asyncio.get_running_loop()
        try:
            await _edit_while(stack, [alice, bob], lambda: loop.run_in_executor(None, lambda: valkey.stop(kill=True)))
            # Without Valkey the replicas read the log.
            operation_id = await alice.edit(cell())
            await eventually(lambda: _has(bob, operation_id))
        finally:
            await loop.run_in_executor(None, valkey.start)
        await eventually(lambda: all(replica.service.relay.is_healthy for replica in stack.replicas))
        operation_id = await bob.edit(cell())
        await eventually(lambda: _has(alice, operation_id))


def _has(client: Client, operation_id: str) -> bool:
    return any(event["operation_id"] == operation_id for event in client.of("diagram_operation_event"))


async def _edit_while(stack: Stack, clients: list[Client], disturb: object) -> None:
    """Everybody edits before, during and after a disturbance; all end with the same screen, nothing is lost."""
    sent: dict[str, list[str]] = {client.name: [] for client in clients}
    cells = [cell() for _ in range(4)]

    async def work(client: Client) -> None:
        for number in range(40):
            sent[client.name].append(await client.edit(cells[number % 4], label=f"{client.name} {number}"))
            await asyncio.sleep(0.005)

    workers = [asyncio.create_task(work(client)) for client in clients]
    await eventually(lambda: all(len(ids) > 10 for ids in sent.values()))
    assert callable(disturb)
    await disturb()
    await asyncio.gather(*workers)
    for client in clients:
        others = [operation_id for name, ids in sent.items() if name != client.name for operation_id in ids]
        await client.receive("diagram_operation_event", len(others))
        events = client.of("diagram_operation_event")
        vectors = [event["update_vector"] for event in events]
        assert vectors == sorted(set(vectors)), "in order, once"
        assert [event["operation_id"] for event in events] == others or len(clients) > 2
    log = [entry.operation_id for entry in stack.diagram.log.values()]
    assert len(log) == len(set(log))
    assert set(log) == {operation_id for ids in sent.values() for operation_id in ids}


async def test_sequencer_outage_delays_operations_and_loses_none(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice"), await stack.connect("bob")
        stack.sequencer.is_down = True
        sent = [await alice.edit(cell()) for _ in range(200)]
        # Behind all of them a ping is still answered: unanswered ones end sockets at both ends.
        async with asyncio.timeout(10):
            await (await alice.connection.ping())
        assert not bob.of("diagram_operation_event")
        stack.sequencer.is_down = False
        await bob.receive("diagram_operation_event", 200)
        assert [event["operation_id"] for event in bob.of("diagram_operation_event")] == sent
        assert max(stack.sequencer.group_sizes) > 1, "what waited was committed as a group"


async def test_operation_that_the_sequencer_cannot_digest_is_rejected_alone(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice"), await stack.connect("bob")
        poison = str(uuid4())
        stack.sequencer.poisoned.add(poison)
        before = await alice.edit(cell())
        await alice.edit(cell(), operation_id=poison)
        after = await alice.edit(cell())
        rejection = await alice.receive("operation_rejected")
        assert rejection["operation_id"] == poison
        await bob.receive("diagram_operation_event", 2)
        assert [event["operation_id"] for event in bob.of("diagram_operation_event")] == [before, after]


async def test_readers_edit_is_denied_with_its_id(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings) as stack:
        await stack.open_session()
        carol = await stack.connect("carol")
        operation_id = await carol.edit(cell())
        denial = await carol.receive("authorization_denied")
        assert denial["original_operation_id"] == operation_id
        assert denial["reason"] == "insufficient_permissions"


async def test_lost_role_is_seen_on_the_next_message(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice"), await stack.connect("bob")
        stack.diagram.roles["id-bob"] = ROLE_READER
        await bob.edit(cell())
        await bob.receive("authorization_denied")
        await eventually(
            lambda: (
                {"bob": "reader"}.items()
                <= {
                    entry["user"]["provider_id"]: entry["permissions"]
                    for entry in alice.of("participants_update")[-1]["participants"]
                }.items()
            )
        )


async def test_lost_access_closes_the_socket(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice"), await stack.connect("bob")
        del stack.diagram.roles["id-bob"]
        for replica in stack.replicas:
            for room in replica.service.rooms.rooms:
                room.recheck_access()
        assert await bob.closed() == (4403, "access revoked")
        await eventually(lambda: len(alice.of("participants_update")[-1]["participants"]) == 1)


async def test_host_ends_the_session_everywhere(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice", 0), await stack.connect("bob", 1)
        request = sessions_pb2.EndDiagramSessionRequest(
            threat_model_id=stack.diagram.threat_model_id, diagram_id=stack.diagram.diagram_id
        )
        await stack.call("bob", "EndDiagramSession", request, 1)
        assert stack.diagram.session is not None, "only the host ends it"
        await stack.call("alice", "EndDiagramSession", request, 1)
        for client in (alice, bob):
            code, _ = await client.closed()
            assert code == 1000
            assert client.messages[-1]["message_type"] == "error"
            assert client.messages[-1]["error"] == "session_terminated"
        await eventually(lambda: not any(list(replica.service.rooms.rooms) for replica in stack.replicas))


async def test_what_the_host_sent_before_ending_the_session_is_kept(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice", 0), await stack.connect("bob", 1)
        sent = [await client.edit(cell()) for _ in range(50) for client in (alice, bob)]
        request = sessions_pb2.EndDiagramSessionRequest(
            threat_model_id=stack.diagram.threat_model_id, diagram_id=stack.diagram.diagram_id
        )
        await stack.call("alice", "EndDiagramSession", request, 1)
        assert stack.diagram.session is None
        assert set(sent) == set(stack.diagram.by_id)
        for client in (alice, bob):
            await client.closed()
            assert len(client.of("diagram_operation_event")) == 50


async def test_session_ends_in_time_although_a_gateway_does_not_answer(
    collaboration_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice = await stack.connect("alice", 0)
        monkeypatch.setattr(RoomDelivery, "settled", lambda *_: None)
        request = sessions_pb2.EndDiagramSessionRequest(
            threat_model_id=stack.diagram.threat_model_id, diagram_id=stack.diagram.diagram_id
        )
        await stack.call("alice", "EndDiagramSession", request, 1)
        assert stack.diagram.session is None
        await alice.closed()


async def test_session_ends_with_a_reason_when_its_diagram_cannot_be_read(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice", 0), await stack.connect("bob", 1)
        stack.sequencer.cannot_read = True
        await bob.send({"message_type": "sync_request"})
        for client in (alice, bob):
            assert (await client.closed())[0] == 1000
            assert (await client.receive("error"))["message"] == CANNOT_GO_ON
        await eventually(lambda: stack.diagram.session is None)


async def test_session_of_a_diagram_that_is_gone_ends_with_a_reason(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=1) as stack:
        await stack.open_session()
        alice = await stack.connect("alice")
        del stack.sequencer.diagrams[stack.diagram.diagram_id]
        await alice.edit(cell())
        await alice.closed()
        assert (await alice.receive("error"))["message"] == DIAGRAM_GONE


async def test_room_that_cannot_take_a_message_ends_the_session_instead_of_being_told_it_again(
    collaboration_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(collaboration_settings, replicas=1) as stack:
        await stack.open_session()
        alice = await stack.connect("alice")
        monkeypatch.setattr(Room, "message", lambda *_: 1 / 0)
        await alice.edit(cell())
        await alice.closed()
        assert (await alice.receive("error"))["message"] == CANNOT_GO_ON


async def test_room_without_streams_notices_that_its_session_was_closed(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=1) as stack:
        await stack.open_session()
        alice = await stack.connect("alice")
        await alice.vanish()
        (replica,) = stack.replicas
        stack.diagram.session = None
        for room in replica.service.rooms.rooms:
            room.poll()
        await eventually(lambda: not list(replica.service.rooms.rooms))


async def test_host_may_come_back_within_the_grace_period(collaboration_settings: Settings) -> None:
    collaboration_settings.host_grace_seconds = 5.0
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice", 0), await stack.connect("bob", 1)
        await alice.vanish()
        await eventually(lambda: len(bob.of("participants_update")[-1]["participants"]) == 1)
        await stack.connect("alice", 1)
        rooms = [room.room for replica in stack.replicas for room in replica.service.rooms.rooms]
        await eventually(lambda: not any(room.is_host_absent for room in rooms))
        assert stack.diagram.session is not None
        assert not bob.of("error")


async def test_session_ends_when_the_host_stays_away(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice", 0), await stack.connect("bob", 1)
        await alice.close()
        code, reason = await bob.closed()
        assert (code, reason) == (1000, "Session terminated: host disconnected")
        assert bob.messages[-1]["error"] == "session_terminated"
        assert stack.diagram.session is None


async def test_second_socket_of_a_user_gets_the_users_operations(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings) as stack:
        await stack.open_session()
        one, two = await stack.connect("alice"), await stack.connect("alice")
        operation_id = await one.edit(cell())
        assert (await two.receive("diagram_operation_event"))["operation_id"] == operation_id
        assert not one.of("diagram_operation_event")
        await eventually(lambda: len(one.of("participants_update")) >= 2)
        assert len(one.of("participants_update")[-1]["participants"]) == 1, "a user is listed once"


async def test_drained_replica_hands_its_sockets_over(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=1) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice"), await stack.connect("bob")

        async def drain() -> None:
            used = next(replica for replica in stack.replicas if list(replica.service.rooms.rooms))
            used.service.rooms.drain()
            await used.server.stop(5)

        await _edit_while(stack, [alice, bob], drain)


async def test_presenter_cursor_reaches_others_and_only_from_the_presenter(collaboration_settings: Settings) -> None:
    async with running(collaboration_settings, replicas=2, gateways=2) as stack:
        await stack.open_session()
        alice, bob = await stack.connect("alice", 0), await stack.connect("bob", 1)
        await bob.send({"message_type": "presenter_cursor", "cursor_position": {"x": 9, "y": 9}})
        await alice.send({"message_type": "presenter_cursor", "cursor_position": {"x": 1, "y": 2}, "more": 1})
        assert await bob.receive("presenter_cursor") == {
            "message_type": "presenter_cursor",
            "cursor_position": {"x": 1, "y": 2},
        }
        assert not alice.of("presenter_cursor")
