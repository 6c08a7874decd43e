"""Sessions over REST, on any replica."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import pytest

from deploy.embedded.valkey import EmbeddedValkey
from services.collaboration.sessions_service import websocket_url
from services.shared.errors import ApiError, from_rpc_error
from services.shared.settings import Settings
from tests.collaboration.stack import REQUEST_ID, Stack, running
from tmi.collaboration.v1 import sessions_pb2
from tmi.threat_model.v1.sequencer_pb2 import DiagramSession

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stack(collaboration_settings: Settings) -> AsyncIterator[Stack]:
    async with running(collaboration_settings, replicas=2, gateways=1) as stack:
        yield stack


def of(stack: Stack, kind: type, **other: str) -> Any:
    return kind(**{"threat_model_id": stack.diagram.threat_model_id, "diagram_id": stack.diagram.diagram_id, **other})


async def failure(stack: Stack, name: str, method: str, request: Any) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stack.call(name, method, request)
    return from_rpc_error(raised.value)


async def test_first_join_creates_and_later_ones_find_the_session(stack: Stack) -> None:
    request = of(stack, sessions_pb2.JoinDiagramSessionRequest)
    created, first = await stack.call_with_metadata("carol", "JoinDiagramSession", request, 0)
    found, second = await stack.call_with_metadata("alice", "JoinDiagramSession", request, 1)
    assert (first["x-http-status"], second["x-http-status"]) == ("201", "200")
    assert created == found
    host = {
        "principal_type": "user",
        "provider": "tmi",
        "provider_id": "carol",
        "display_name": "Carol",
        "email": "carol@example.com",
    }
    assert created == {
        "session_id": stack.diagram.session.session_id if stack.diagram.session else "",
        "host": host,
        "presenter": host,
        "threat_model_id": stack.diagram.threat_model_id,
        "threat_model_name": "Shop",
        "diagram_id": stack.diagram.diagram_id,
        "diagram_name": "Overview",
        "participants": [],
        "websocket_url": f"wss://tmi.example.com/api/threat_models/{stack.diagram.threat_model_id}"
        f"/diagrams/{stack.diagram.diagram_id}/ws?session_id={created['session_id']}",
    }


async def test_the_sequencer_learns_which_request_it_serves(stack: Stack) -> None:
    await stack.open_session()
    await stack.call("alice", "GetDiagramSession", of(stack, sessions_pb2.GetDiagramSessionRequest))
    assert stack.sequencer.request_ids[-1] == REQUEST_ID


async def test_connected_users_are_listed_once_with_their_own_roles_on_every_replica(stack: Stack) -> None:
    await stack.open_session()
    for name in ("alice", "carol", "alice"):
        await stack.connect(name)
    for replica in (0, 1):
        session = await stack.call(
            "bob", "GetDiagramSession", of(stack, sessions_pb2.GetDiagramSessionRequest), replica
        )
        listed = [(entry["user"]["provider_id"], entry["permissions"]) for entry in session["participants"]]
        assert listed == [("alice", "writer"), ("carol", "reader")]
        assert session["participants"][0]["last_activity"].endswith("Z")


async def test_get_without_a_session_is_404_and_without_a_role_403(stack: Stack) -> None:
    request = of(stack, sessions_pb2.GetDiagramSessionRequest)
    assert (await failure(stack, "alice", "GetDiagramSession", request)).status == 404
    assert (await failure(stack, "mallory", "GetDiagramSession", request)).status == 403
    assert (
        await failure(stack, "mallory", "JoinDiagramSession", of(stack, sessions_pb2.JoinDiagramSessionRequest))
    ).status == 403


async def test_delete_is_204_without_a_session_and_404_without_a_diagram(stack: Stack) -> None:
    _, trailing = await stack.call_with_metadata(
        "alice", "EndDiagramSession", of(stack, sessions_pb2.EndDiagramSessionRequest)
    )
    assert trailing["x-http-status"] == "204"
    for other in ({"diagram_id": str(uuid4())}, {"threat_model_id": str(uuid4())}):
        request = of(stack, sessions_pb2.EndDiagramSessionRequest, **other)
        assert (await failure(stack, "alice", "EndDiagramSession", request)).status == 404


async def test_delete_by_somebody_else_changes_nothing(stack: Stack) -> None:
    await stack.open_session("alice")
    request = of(stack, sessions_pb2.EndDiagramSessionRequest)
    await stack.call("bob", "EndDiagramSession", request, 1)
    assert len(await stack.call("bob", "ListMySessions", sessions_pb2.ListMySessionsRequest())) == 1
    await stack.call("alice", "EndDiagramSession", request, 1)
    assert stack.diagram.session is None


@pytest.mark.parametrize(("name", "by"), [("alice", "owner of the threat model"), ("root", "administrator")])
async def test_owner_and_administrators_end_the_session_of_others(stack: Stack, name: str, by: str) -> None:
    await stack.open_session("bob")
    bob = await stack.connect("bob")
    request = of(stack, sessions_pb2.EndDiagramSessionRequest)
    _, trailing = await stack.call_with_metadata(name, "EndDiagramSession", request, 1)
    assert trailing["x-http-header-x-session-ended"] == "true"
    assert stack.diagram.session is None
    assert by in (await bob.receive("error"))["message"]
    _, trailing = await stack.call_with_metadata("alice", "EndDiagramSession", request, 1)
    assert trailing["x-http-header-x-session-ended"] == "false", "there is none any more"


async def test_owner_who_takes_part_must_ask_for_the_end(stack: Stack) -> None:
    """The web client sends DELETE for any participant who leaves."""
    await stack.open_session("bob")
    await stack.connect("alice")
    get = of(stack, sessions_pb2.GetDiagramSessionRequest)
    while not (await stack.call("bob", "GetDiagramSession", get))["participants"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    request = of(stack, sessions_pb2.EndDiagramSessionRequest)
    _, trailing = await stack.call_with_metadata("alice", "EndDiagramSession", request, 1)
    assert trailing["x-http-header-x-session-ended"] == "false"
    assert stack.diagram.session is not None
    request.end = True
    for name, ended in (("carol", "false"), ("alice", "true")):
        _, trailing = await stack.call_with_metadata(name, "EndDiagramSession", request, 1)
        assert trailing["x-http-header-x-session-ended"] == ended


async def test_my_sessions_is_a_bare_array_of_readable_ones(stack: Stack) -> None:
    request = sessions_pb2.ListMySessionsRequest()
    assert await stack.call("alice", "ListMySessions", request) == []
    await stack.open_session()
    (session,) = await stack.call("carol", "ListMySessions", request, 1)
    assert session["diagram_id"] == stack.diagram.diagram_id
    assert await stack.call("mallory", "ListMySessions", request) == []


async def test_ticket_is_random_and_not_to_be_stored(stack: Stack) -> None:
    session = await stack.open_session()
    request = sessions_pb2.IssueTicketRequest(session_id=session["session_id"])
    one, trailing = await stack.call_with_metadata("carol", "IssueTicket", request, 0)
    two = await stack.call("carol", "IssueTicket", request, 1)
    assert trailing["x-http-header-cache-control"] == "no-store"
    assert len(one["ticket"]) == len(two["ticket"]) == 43
    assert one != two


async def test_ticket_for_an_unknown_or_unreadable_session_is_404(stack: Stack) -> None:
    session = await stack.open_session()
    unknown = sessions_pb2.IssueTicketRequest(session_id=str(uuid4()))
    assert (await failure(stack, "alice", "IssueTicket", unknown)).status == 404
    unreadable = sessions_pb2.IssueTicketRequest(session_id=session["session_id"])
    assert (await failure(stack, "mallory", "IssueTicket", unreadable)).status == 404


async def test_without_valkey_sessions_are_served_and_tickets_are_503(stack: Stack, valkey: EmbeddedValkey) -> None:
    session = await stack.open_session()
    valkey.stop(kill=True)
    try:
        assert (await stack.open_session("bob"))["session_id"] == session["session_id"]
        request = sessions_pb2.IssueTicketRequest(session_id=session["session_id"])
        error = await failure(stack, "alice", "IssueTicket", request)
        assert (error.status, error.code) == (503, "service_unavailable")
        assert "Retry-After" in error.headers
    finally:
        valkey.start()


async def test_without_the_sequencer_everything_is_503(stack: Stack) -> None:
    stack.sequencer.is_down = True
    request = of(stack, sessions_pb2.GetDiagramSessionRequest)
    assert (await failure(stack, "alice", "GetDiagramSession", request)).status == 503


async def test_sweep_ends_idle_sessions_and_keeps_live_ones(stack: Stack) -> None:
    await stack.open_session()
    client = await stack.connect("alice")
    assert stack.diagram.session is not None
    stack.diagram.session.last_activity_at -= 120_000
    sweepers = [replica.service.sweeper for replica in stack.replicas]
    in_use = next(replica for replica in stack.replicas if list(replica.service.rooms.rooms))
    await in_use.service.sweeper.sweep()
    assert stack.diagram.session is not None, "somebody is connected"
    stack.diagram.session.last_activity_at -= 120_000
    for room in in_use.service.rooms.rooms:
        room.room.last_activity_at -= 1000
    for sweeper in sweepers:
        await sweeper.sweep()
    assert await stack.call("alice", "ListMySessions", sessions_pb2.ListMySessionsRequest()) == []
    assert (await client.closed())[0] == 1000
    assert client.messages[-1]["error"] == "session_terminated"


@pytest.mark.parametrize(
    ("public_url", "expected"),
    [
        ("http://localhost:8080", "ws://localhost:8080/threat_models/t/diagrams/d/ws?session_id=s"),
        ("https://tmi.example.com/", "wss://tmi.example.com/threat_models/t/diagrams/d/ws?session_id=s"),
        ("https://example.com/tmi/api", "wss://example.com/tmi/api/threat_models/t/diagrams/d/ws?session_id=s"),
    ],
)
async def test_websocket_url_follows_the_public_url(public_url: str, expected: str) -> None:
    session = DiagramSession(session_id="s", threat_model_id="t", diagram_id="d")
    assert websocket_url(public_url, session) == expected
