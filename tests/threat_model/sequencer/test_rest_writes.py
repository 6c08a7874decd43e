"""REST writes and collaboration pass through one sequencer: the diagram's row."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from services.shared.errors import ApiError
from services.shared.operations import operations_of
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.threat_model.people.copies import Principals
from services.threat_model.resources.binding import bind
from services.threat_model.service import families
from tests.threat_model.sequencer.conftest import World
from tests.threat_model.sequencer.test_cells import A, B, C, entry, node
from tests.threat_model.sequencer.test_concurrency import in_threads
from tmi.auth.v1.directory_pb2 import PrincipalQuery, PrincipalRecord
from tmi.threat_model.v1 import diagrams_pb2, sequencer_pb2

_SERVICE = diagrams_pb2.DESCRIPTOR.services_by_name["Diagrams"]


class Nobody:
    """A directory for bodies that name nobody."""

    def resolve(self, queries: Sequence[PrincipalQuery], call: Call) -> list[PrincipalRecord]:
        raise AssertionError(queries)


def rest(world: World, rpc: str, request: Any) -> Reply:
    request.threat_model_id, request.diagram_id = world.threat_model_id, world.diagram_id
    (operation,) = operations_of(_SERVICE.methods_by_name[rpc])
    call = Call(operation.requirement, world.owner, "", "")
    people = Principals(world.database, Nobody())
    (handlers,) = (
        handlers
        for service, handlers in bind(families(people), world.database, require_if_match=False)
        if service is _SERVICE
    )
    reply: Reply = handlers[rpc](request, call)
    return reply


def patch_cells(world: World, cells: list[Any]) -> Any:
    body = orjson.dumps([{"op": "replace", "path": "/cells", "value": cells}])
    return orjson.loads(rest(world, "PatchDiagram", diagrams_pb2.PatchDiagramRequest(body=HttpBody(data=body))).body)


def get(world: World) -> Any:
    return orjson.loads(rest(world, "GetDiagram", diagrams_pb2.GetDiagramRequest()).body)


def close(world: World, session_id: str) -> None:
    request = sequencer_pb2.CloseSessionRequest(diagram_id=world.diagram_id, session_id=session_id)
    world.call("CloseSession", request)


def test_rest_reads_every_accepted_operation_with_its_vector_and_a_new_version(world: World) -> None:
    before = get(world)
    world.commit(world.operation(entry("add", B, node(B))), world.operation(entry("add", A, node(A))))
    after = get(world)
    assert after["cells"] == [node(B), node(A)] == orjson.loads(world.state().cells)
    assert after["update_vector"] == world.state().update_vector == 2
    assert after["version"] == before["version"] + 2


def test_what_a_session_left_can_be_saved_by_rest(world: World) -> None:
    odd = {
        "shape": "edge",
        "source": A.upper(),
        "target": {"cell": B},
        "labels": ["TLS"],
        "attrs": {"line": {"targetMarker": {"name": ""}}, "text": {"fontSize": "14"}},
        "connector": "wobble",
        "data": {"_metadata": [{"key": "_originalStroke", "value": None}]},
    }
    opened = world.open().session
    world.commit(
        world.operation(entry("add", A, node(A, data={"_metadata": {"tier": "web"}}))),
        world.operation(entry("add", B, {"shape": "store", "x": 1, "y": 2, "width": 3, "height": 4})),
        world.operation(entry("add", C, odd)),
    )
    close(world, opened.session_id)
    drawn = get(world)
    assert len(drawn["cells"]) == 3
    assert patch_cells(world, drawn["cells"])["update_vector"] == drawn["update_vector"] == 3


def test_rest_writes_are_refused_during_a_session(world: World) -> None:
    session_id = world.open().session.session_id
    for write in (
        lambda: patch_cells(world, []),
        lambda: rest(world, "DeleteDiagram", diagrams_pb2.DeleteDiagramRequest()),
    ):
        with pytest.raises(ApiError) as caught:
            write()
        assert (caught.value.status, caught.value.code) == (409, "conflict")
    close(world, session_id)
    patch_cells(world, [])


def test_operations_continue_where_a_rest_write_ended(world: World) -> None:
    assert patch_cells(world, [node(A), node(B)])["update_vector"] == 1
    opened = world.open()
    assert opened.session.start_vector == 1
    (result,) = world.commit(world.operation(entry("update", A, {"zIndex": 1}))).results
    assert result.committed.update_vector == 2
    assert get(world)["cells"] == [node(A, zIndex=1), node(B)]
    assert not world.read(0).complete
    assert world.read(1).complete


def test_rest_writes_and_sessions_that_alternate_lose_nothing(concurrent_world: World) -> None:
    world = concurrent_world
    world.store_cells(node(A, count=0))

    def collaborate(_: int) -> int:
        committed = 0
        for _ in range(40):
            session = world.open().session
            response = world.commit(world.operation(entry("update", A, {"z": 1})), session_id=session.session_id)
            committed += len(response.results)
            close(world, session.session_id)
        return committed

    def write(_: int) -> int:
        written = 0
        for _ in range(40):
            try:
                patch_cells(world, [node(A, count=written + 1)])
                written += 1
            except ApiError as error:
                if error.code != "conflict":
                    raise
        return written

    committed_1, committed_2, written = in_threads(3, lambda index: write(index) if index == 2 else collaborate(index))
    final = get(world)
    assert final["update_vector"] == committed_1 + committed_2 + written
    assert final["cells"][0]["count"] == written
    assert final["version"] == 1 + committed_1 + committed_2 + written
