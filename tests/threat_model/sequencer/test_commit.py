import uuid
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from sqlalchemy import select

from services.shared import rfc3339
from services.shared.access import READER, WRITER
from services.shared.database import Database
from services.shared.errors import ApiError
from services.threat_model.audit.tables import audit_entries, outbox
from services.threat_model.cells.operations import fold
from services.threat_model.limits import MAX_CELLS
from services.threat_model.sequencer import commit
from tests.threat_model.sequencer.conftest import World
from tests.threat_model.sequencer.test_cells import A, B, C, D, edge, entry, node
from tmi.threat_model.v1 import sequencer_pb2 as messages

OUTCOME = messages.Outcome
Count = Callable[[Database, Callable[[], Any]], list[str]]


def outcomes(response: messages.CommitOperationsResponse) -> list[str]:
    return [OUTCOME.Name(result.outcome).removeprefix("OUTCOME_") for result in response.results]


def effective(committed: messages.CommittedOperation) -> Any:
    return orjson.loads(committed.operation)


def new_ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def test_accepted_operations_are_numbered_stored_and_logged(world: World) -> None:
    first = world.operation(entry("add", A, node(A)))
    second = world.operation(entry("update", A, {"zIndex": 2}), entry("add", B, node(B)))
    response = world.commit(first, second)
    assert outcomes(response) == ["ACCEPTED", "ACCEPTED"]
    assert response.update_vector == 2
    assert not response.session_ended
    committed = response.results[1].committed
    assert (committed.update_vector, committed.operation_id, committed.socket_id) == (2, second.operation_id, "socket")
    assert effective(committed)["cells"] == [entry("update", A, node(A, zIndex=2)), entry("add", B, node(B))]
    assert orjson.loads(committed.initiating_user) == {
        "principal_type": "user",
        "provider": "tmi",
        "provider_id": world.owner.provider_id,
        "display_name": "owner",
        "email": "owner@example.com",
    }
    assert world.cells() == [node(A, zIndex=2), node(B)]
    assert [result.committed for result in response.results] == list(world.read(0).operations)


def test_the_diagram_row_tells_of_the_commit(world: World) -> None:
    world.open()
    before = world.diagram()
    world.commit(*(world.operation(entry("add", cell_id, node(cell_id))) for cell_id in (A, B)))
    after = world.diagram()
    assert (after.update_vector, after.version) == (before.update_vector + 2, before.version + 2)
    assert after.modified_at > before.modified_at
    assert after.session_activity_at >= before.session_activity_at
    assert (after.name, after.metadata, after.session_start_vector) == (before.name, before.metadata, 0)


def test_every_commit_is_audited_with_its_actor(world: World) -> None:
    writer = world.new_principal("writer")
    world.grant(writer.user_id, WRITER)
    world.commit(
        world.operation(entry("add", A, node(A))),
        world.operation(entry("update", B, {})),
        world.operation(entry("remove", A), by=writer),
    )
    with world.database.engine.connect() as connection:
        entries = connection.execute(
            select(audit_entries).where(audit_entries.c.object_id == world.diagram_id).order_by(audit_entries.c.id)
        ).all()
    assert [(row.object_type, row.change_type, row.version) for row in entries] == [
        ("diagram", "patched", 2),
        ("diagram", "patched", 3),
    ]
    assert {row.root_id for row in entries} == {world.threat_model_id}
    assert [row.actor_provider_id for row in entries] == [world.owner.provider_id, writer.provider_id]
    assert [row.actor_email for row in entries] == ["owner@example.com", "writer@example.com"]


def events(world: World) -> list[Any]:
    with world.database.engine.connect() as connection:
        query = select(outbox).where(outbox.c.object_id == world.diagram_id).order_by(outbox.c.id)
        return list(connection.execute(query))


@pytest.mark.parametrize("idle_since", [None, 2**42])
def test_a_session_that_changed_the_diagram_is_announced_once_at_its_end(world: World, idle_since: int | None) -> None:
    writer = world.new_principal("writer")
    world.grant(writer.user_id, WRITER)
    session_id = world.open().session.session_id
    world.commit(world.operation(entry("add", A, node(A))), world.operation(entry("remove", A), by=writer))
    world.commit(world.operation(entry("add", B, node(B))))
    assert events(world) == []
    request = messages.CloseSessionRequest(diagram_id=world.diagram_id, session_id=session_id, idle_since=idle_since)
    assert [world.call("CloseSession", request).closed for _ in range(2)] == [True, False]
    (event,) = events(world)
    assert (event.event_type, event.root_id) == ("diagram.updated", world.threat_model_id)
    assert event.payload["version"] == world.diagram().version == 4
    assert event.payload["actor"]["display_name"] == "owner"


def test_a_session_that_changed_nothing_is_no_event(world: World) -> None:
    session_id = world.open().session.session_id
    world.commit(world.operation(entry("update", A, {})))
    request = messages.CloseSessionRequest(diagram_id=world.diagram_id, session_id=session_id)
    assert world.call("CloseSession", request).closed
    assert events(world) == []
    assert world.diagram().session_id is None


def test_each_operation_succeeds_or_fails_by_itself(world: World) -> None:
    response = world.commit(
        world.operation(entry("add", A, node(A))),
        world.operation(entry("add", B, node(B)), entry("update", D, {})),
        world.operation(entry("update", A, {"zIndex": 1})),
        world.operation(),
    )
    assert outcomes(response) == ["ACCEPTED", "REJECTED", "ACCEPTED", "REJECTED"]
    rejected = response.results[1]
    assert (rejected.reason, rejected.requires_resync) == ("conflict_detected", True)
    assert list(rejected.affected_cells) == [D]
    assert rejected.message
    assert not rejected.HasField("committed")
    assert response.results[3].reason == "empty_operation"
    assert response.results[2].committed.update_vector == response.update_vector == 2
    assert world.cells() == [node(A, zIndex=1)]


def test_update_of_a_cell_removed_after_the_base_vector_is_accepted_without_effect(world: World) -> None:
    world.commit(world.operation(entry("add", A, node(A))))
    world.commit(world.operation(entry("remove", A)))  # update_vector 2
    late = world.operation(entry("update", A, {"zIndex": 1}))
    late.base_vector = 1
    response = world.commit(late)
    assert outcomes(response) == ["ACCEPTED"]
    assert effective(response.results[0].committed) == {"type": "patch", "cells": []}
    assert response.update_vector == 3
    knowing = world.operation(entry("update", A, {"zIndex": 1}))
    knowing.base_vector = 2
    never = world.operation(entry("update", B, {"zIndex": 1}))
    never.base_vector = 1
    assert outcomes(world.commit(knowing, never)) == ["REJECTED", "REJECTED"]
    again = (world.operation(entry("add", A, node(A))), world.operation(entry("remove", A)))
    assert outcomes(world.commit(*again, late_of_the_same_group := world.operation(entry("update", A, {})))) == [
        "ACCEPTED",
        "ACCEPTED",
        "ACCEPTED",
    ]
    assert late_of_the_same_group.base_vector == 0
    assert world.cells() == []


def test_who_is_far_behind_a_removal_is_told_of_a_conflict(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "FAR_BEHIND", 3)
    world.commit(world.operation(entry("add", A, node(A)), entry("add", B, node(B))))
    world.commit(world.operation(entry("remove", A)))  # update_vector 2
    late = [world.operation(entry("update", A, {"zIndex": number})) for number in range(2)]
    for number in range(2):
        world.commit(world.operation(entry("update", B, {"zIndex": number})))
    assert outcomes(world.commit(late[0])) == ["ACCEPTED"]
    assert outcomes(world.commit(late[1])) == ["REJECTED"]


def test_a_group_without_any_success_changes_nothing(world: World) -> None:
    world.open()
    before = world.diagram()
    response = world.commit(world.operation(entry("update", A, {})))
    assert (outcomes(response), response.update_vector) == (["REJECTED"], 0)
    assert world.diagram() == before
    assert world.commit().update_vector == 0


@pytest.mark.parametrize("operation", [b"", b"{", b"null", b"\xff", b'{"type":"patch","cells":[{"id":"\\u0000"}]}'])
def test_an_operation_that_is_no_json_is_rejected(world: World, operation: bytes) -> None:
    request = world.operation()
    request.operation = operation
    (result,) = world.commit(request).results
    assert result.reason == "validation_failed"


@pytest.mark.parametrize("operation_id", ["1", "x" * 100, "a\0b", A + "0"])
def test_an_operation_id_is_a_uuid(world: World, operation_id: str) -> None:
    (result,) = world.commit(world.operation(entry("add", A, node(A)), operation_id=operation_id)).results
    assert (result.outcome, result.reason) == (OUTCOME.OUTCOME_REJECTED, "validation_failed")


def test_a_repeated_operation_is_answered_with_its_commit(world: World) -> None:
    operation = world.operation(entry("add", A, node(A)))
    (first,) = world.commit(operation).results
    world.commit(world.operation(entry("update", A, {"zIndex": 5})))
    (again,) = world.commit(operation).results
    assert again == messages.OperationResult(outcome=OUTCOME.OUTCOME_REPEATED, committed=first.committed)
    assert world.cells() == [node(A, zIndex=5)]
    assert world.diagram().update_vector == 2


def test_an_operation_twice_in_one_group_is_applied_once(world: World) -> None:
    operation = world.operation(entry("add", A, node(A)))
    response = world.commit(operation, world.operation(entry("remove", A)), operation)
    assert outcomes(response) == ["ACCEPTED", "ACCEPTED", "REPEATED"]
    assert response.results[2].committed == response.results[0].committed
    assert world.cells() == []


def test_an_operation_is_repeated_across_sessions(world: World) -> None:
    operation = world.operation(entry("add", A, node(A)))
    world.commit(operation)
    world.call(
        "CloseSession",
        messages.CloseSessionRequest(diagram_id=world.diagram_id, session_id=world.diagram().session_id),
    )
    assert outcomes(world.commit(operation)) == ["REPEATED"]


def test_a_rejected_operation_may_come_again(world: World) -> None:
    operation = world.operation(entry("update", A, {"zIndex": 1}))
    assert outcomes(world.commit(operation)) == ["REJECTED"]
    world.commit(world.operation(entry("add", A, node(A))))
    assert outcomes(world.commit(operation)) == ["ACCEPTED"]


def test_operation_ids_are_of_one_diagram(world: World) -> None:
    operation = world.operation(entry("add", A, node(A)))
    world.commit(operation)
    world.diagram_id = world.new_diagram()
    assert outcomes(world.commit(operation)) == ["ACCEPTED"]


def test_roles_are_read_anew_with_every_group(world: World) -> None:
    group = world.new_principal("group", kind="group")
    reader, writer, stranger = (world.new_principal(name) for name in ("reader", "writer", "stranger"))
    member = world.new_principal("member", group_ids=(group.user_id,))
    for principal, role in ((group, WRITER), (reader, READER), (writer, WRITER)):
        world.grant(principal.user_id, role)
    everyone = (reader, writer, stranger, member, world.owner)

    def attempt() -> list[str]:
        return outcomes(world.commit(*(world.operation(entry("remove", A), by=principal) for principal in everyone)))

    assert attempt() == ["DENIED", "ACCEPTED", "DENIED", "ACCEPTED", "ACCEPTED"]
    world.grant(writer.user_id, READER)
    world.grant(group.user_id, 0)
    world.grant(stranger.user_id, WRITER)
    assert attempt() == ["DENIED", "DENIED", "ACCEPTED", "DENIED", "ACCEPTED"]


def test_an_initiator_without_identity_is_denied(world: World) -> None:
    request = world.operation(entry("remove", A))
    request.initiator.Clear()
    assert outcomes(world.commit(request)) == ["DENIED"]


def test_nothing_is_committed_for_a_session_that_is_not_the_diagrams(world: World) -> None:
    session_id = world.open().session.session_id
    world.commit(world.operation(entry("add", A, node(A))))
    other = world.commit(world.operation(entry("add", B, node(B))), session_id=str(uuid.uuid4()))
    assert other == messages.CommitOperationsResponse(session_ended=True, update_vector=1)
    world.call("CloseSession", messages.CloseSessionRequest(diagram_id=world.diagram_id, session_id=session_id))
    assert world.commit(world.operation(entry("remove", A)), session_id=session_id).session_ended
    assert world.cells() == [node(A)]


def test_nothing_is_committed_to_what_was_deleted(world: World) -> None:
    session_id = world.open().session.session_id
    operation = world.operation(entry("add", A, node(A)))
    world.set_diagram(deleted_at=rfc3339.now())
    assert world.commit(operation, session_id=session_id).session_ended
    world.set_diagram(deleted_at=None)
    world.set_threat_model(deleted_at=rfc3339.now())
    assert world.commit(operation, session_id=session_id).session_ended
    world.diagram_id = str(uuid.uuid4())
    assert world.commit(operation, session_id=session_id).session_ended


def test_malformed_ids_are_refused(world: World) -> None:
    for diagram_id, session_id in (("x", A), (A, "")):
        with pytest.raises(ApiError) as caught:
            world.call(
                "CommitOperations", messages.CommitOperationsRequest(diagram_id=diagram_id, session_id=session_id)
            )
        assert caught.value.code == "invalid_id"


# --- cells as rows ----------------------------------------------------------------------------


def test_removing_a_node_finds_its_edges_among_cells_that_are_not_named(world: World) -> None:
    world.store_cells(edge(C), node(A), node(B, parent=A), edge(D, B, B))
    (result,) = world.commit(world.operation(entry("remove", A))).results
    assert effective(result.committed)["cells"] == [
        entry("remove", C),
        entry("update", B, node(B)),
        entry("remove", A),
    ]
    assert world.cells() == [node(B), edge(D, B, B)]


def test_removing_a_node_added_in_the_same_group_removes_edges_that_waited_for_it(world: World) -> None:
    world.store_cells(edge(C), node(B))
    world.commit(world.operation(entry("add", A, node(A))), world.operation(entry("remove", A)))
    assert world.cells() == [node(B)]


def test_cells_keep_their_place_and_new_ones_come_last(world: World) -> None:
    first, second, *others = new_ids(6)
    world.store_cells(*(node(cell_id) for cell_id in (first, second)))
    for cell_id in others:
        world.commit(world.operation(entry("add", cell_id, node(cell_id)), entry("update", first, {"zIndex": 1})))
    world.commit(world.operation(entry("remove", second), entry("add", second, node(second))))
    assert [cell["id"] for cell in world.cells()] == [first, *others, second]


def test_the_number_of_cells_is_limited_whatever_is_loaded(world: World) -> None:
    ids = new_ids(MAX_CELLS)
    world.store_cells(*({"id": cell_id, "shape": "actor"} for cell_id in ids[1:]))
    response = world.commit(*(world.operation(entry("add", cell_id, node(cell_id))) for cell_id in (ids[0], A)))
    assert outcomes(response) == ["ACCEPTED", "REJECTED"]
    assert response.results[1].reason == "validation_failed"
    assert outcomes(world.commit(world.operation(entry("update", ids[5], {"zIndex": 1})))) == ["ACCEPTED"]


# --- reading ----------------------------------------------------------------------------------


def test_the_log_is_read_after_a_vector_and_in_pieces(world: World) -> None:
    world.commit(*(world.operation(entry("remove", A)) for _ in range(5)))
    assert [operation.update_vector for operation in world.read(2).operations] == [3, 4, 5]
    piece = world.read(1, limit=2)
    assert ([operation.update_vector for operation in piece.operations], piece.complete) == ([2, 3], True)
    assert (piece.update_vector, piece.session_id) == (5, world.diagram().session_id)
    end = world.read(5)
    assert (list(end.operations), end.complete) == ([], True)


def test_a_rest_write_leaves_a_gap_that_is_told(world: World) -> None:
    world.commit(world.operation(entry("remove", A)))
    world.set_diagram(update_vector=2)
    assert not world.read(0).complete
    assert not world.read(1).complete
    assert world.read(2).complete
    world.commit(world.operation(entry("remove", A)))
    gap = world.read(1)
    assert (gap.complete, list(gap.operations), gap.update_vector) == (False, [], 3)
    assert [operation.update_vector for operation in world.read(2).operations] == [3]
    assert world.read(0, limit=1).complete


def test_a_vector_ahead_of_the_diagram_is_not_complete(world: World) -> None:
    ahead = world.read(1)
    assert (ahead.complete, ahead.update_vector, ahead.session_id) == (False, 0, "")


def test_state_is_the_fold_of_the_log_and_names_the_session(world: World) -> None:
    world.store_cells(node(D))
    world.set_diagram(update_vector=4, color_palette=[{"position": 1, "color": "#ff0000"}])
    session = world.open().session
    world.commit(
        world.operation(entry("add", A, node(A)), entry("add", B, node(B)), entry("add", C, edge())),
        world.operation(entry("update", D, {"parent": A})),
        world.operation(entry("remove", A)),
    )
    state = world.state()
    folded = {D: node(D)}
    for committed in world.read(4).operations:
        fold(folded, effective(committed))
    assert orjson.loads(state.cells) == list(folded.values()) == [node(D), node(B)]
    assert (state.update_vector, state.start_vector, state.session_id) == (7, 4, session.session_id)
    assert (state.diagram_id, state.threat_model_id) == (world.diagram_id, world.threat_model_id)
    assert orjson.loads(state.color_palette) == [{"position": 1, "color": "#ff0000"}]


def test_state_of_an_empty_diagram(world: World) -> None:
    assert world.state() == messages.DiagramState(
        diagram_id=world.diagram_id, threat_model_id=world.threat_model_id, cells=b"[]"
    )


def test_access_of_many_is_answered_in_their_order(world: World) -> None:
    group = world.new_principal("group", kind="group")
    reader, stranger = world.new_principal("reader"), world.new_principal("stranger")
    member = world.new_principal("member", group_ids=(group.user_id,))
    world.grant(reader.user_id, READER)
    world.grant(group.user_id, WRITER)
    request = messages.CheckAccessRequest(
        diagram_id=world.diagram_id, principals=[stranger, member, world.owner, reader, member]
    )
    assert list(world.call("CheckAccess", request).roles) == [0, 2, 3, 1, 2]
    request.ClearField("principals")
    assert list(world.call("CheckAccess", request).roles) == []


@pytest.mark.parametrize("deleted", ["diagram", "threat model", "never there"])
def test_reading_what_is_not_there_is_404(world: World, deleted: str) -> None:
    if deleted == "diagram":
        world.set_diagram(deleted_at=rfc3339.now())
    elif deleted == "threat model":
        world.set_threat_model(deleted_at=rfc3339.now())
    else:
        world.diagram_id = str(uuid.uuid4())
    for work in (
        lambda: world.read(0),
        world.state,
        lambda: world.call("CheckAccess", messages.CheckAccessRequest(diagram_id=world.diagram_id)),
    ):
        with pytest.raises(ApiError) as caught:
            work()
        assert caught.value.code == "not_found"


# --- cost and crashes -------------------------------------------------------------------------


@pytest.mark.parametrize("removes", [False, True])
@pytest.mark.parametrize("size", [1, 10, 200])
def test_the_number_of_statements_does_not_depend_on_the_size_of_the_group(
    world: World, count_statements: Count, size: int, removes: bool
) -> None:
    session_id = world.open().session.session_id
    stored, edges = new_ids(size), new_ids(size if removes else 0)
    world.store_cells(*map(node, stored), *(edge(cell_id, A, B) for cell_id in edges))
    group = []
    for cell_id, edge_id, new_id in zip_longest(stored, edges, new_ids(size)):
        writer = world.new_principal("writer")
        world.grant(writer.user_id, WRITER)
        entries = [entry("update", cell_id, {"z": 1}), entry("add", new_id, node(new_id))]
        if removes:
            entries.append(entry("remove", edge_id))
        group.append(world.operation(*entries, by=writer))
    answer: list[messages.CommitOperationsResponse] = []
    statements = count_statements(world.database, lambda: answer.append(world.commit(*group, session_id=session_id)))
    assert outcomes(answer[0]) == ["ACCEPTED"] * size
    allowed = (3 if world.database.engine.name == "postgresql" else 7) + (1 if removes else 0)
    assert len(statements) <= allowed, "\n".join(statements)


def test_removing_cells_costs_one_statement_more(concurrent_world: World, count_statements: Count) -> None:
    world = concurrent_world
    world.store_cells(node(A), edge(C), node(B))
    session_id = world.open().session.session_id

    def statements(*entries: dict[str, Any]) -> int:
        operation = world.operation(*entries)
        return len(count_statements(world.database, lambda: world.commit(operation, session_id=session_id)))

    update = entry("update", B, {"z": 1})
    assert statements(update) == statements(entry("remove", D), update) == 3
    assert statements(entry("remove", C), update) == statements(entry("remove", A), update) == 4


def test_reads_are_one_statement_each(world: World, count_statements: Count) -> None:
    world.commit(world.operation(entry("add", A, node(A))))
    session_id = world.diagram().session_id
    get_session = messages.GetSessionRequest(
        threat_model_id=world.threat_model_id, diagram_id=world.diagram_id, principal=world.owner
    )
    calls: list[tuple[str, Message]] = [
        ("GetSession", get_session),
        ("ListSessions", messages.ListSessionsRequest(principal=world.owner)),
        ("TouchSessions", messages.TouchSessionsRequest(session_ids=[session_id])),
        ("ReadOperations", messages.ReadOperationsRequest(diagram_id=world.diagram_id)),
        ("GetDiagramState", messages.GetDiagramStateRequest(diagram_id=world.diagram_id)),
        ("CheckAccess", messages.CheckAccessRequest(diagram_id=world.diagram_id, principals=[world.owner] * 3)),
    ]
    for rpc, request in calls:
        assert len(count_statements(world.database, partial(world.call, rpc, request))) == 1, rpc


def test_the_end_of_a_session_and_its_event_are_two_statements(world: World, count_statements: Count) -> None:
    world.commit(world.operation(entry("add", A, node(A))))
    request = messages.CloseSessionRequest(diagram_id=world.diagram_id, session_id=world.diagram().session_id)
    statements = count_statements(world.database, partial(world.call, "CloseSession", request))
    assert len(statements) == (2 if world.database.engine.name == "postgresql" else 3)
