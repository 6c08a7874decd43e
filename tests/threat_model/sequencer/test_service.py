import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import pytest

from services.shared import rpc
from services.shared.database import translate_database_error
from services.shared.errors import from_rpc_error
from services.threat_model.schema import CONSTRAINTS
from services.threat_model.sequencer.handlers import Sequencer
from services.threat_model.service import CELL_REFERENCES
from tests.threat_model.sequencer.conftest import World
from tests.threat_model.sequencer.test_cells import A, entry, node
from tmi.threat_model.v1 import sequencer_pb2 as messages
from tmi.threat_model.v1.sequencer_pb2_grpc import SequencerStub


@pytest.fixture
def stub(concurrent_world: World) -> Iterator[SequencerStub]:
    server = grpc.server(ThreadPoolExecutor(4))
    service = messages.DESCRIPTOR.services_by_name["Sequencer"]
    handlers = Sequencer(concurrent_world.database, CELL_REFERENCES).handlers()
    rpc.add_service(server, service, handlers, partial(translate_database_error, constraints=CONSTRAINTS))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield SequencerStub(channel)
    server.stop(None).wait()


def test_a_session_and_a_commit_over_grpc(concurrent_world: World, stub: SequencerStub) -> None:
    world = concurrent_world
    identity = {"threat_model_id": world.threat_model_id, "diagram_id": world.diagram_id}
    opened = stub.OpenSession(messages.OpenSessionRequest(host=world.owner, **identity))
    assert opened.created
    assert (
        stub.GetSession(
            messages.GetSessionRequest(
                threat_model_id=world.threat_model_id, diagram_id=world.diagram_id, principal=world.owner
            )
        )
        == opened.session
    )
    committed = stub.CommitOperations(
        messages.CommitOperationsRequest(
            diagram_id=world.diagram_id,
            session_id=opened.session.session_id,
            operations=[world.operation(entry("add", A, node(A)))],
        )
    )
    assert committed.update_vector == 1
    assert stub.ReadOperations(messages.ReadOperationsRequest(diagram_id=world.diagram_id)).complete
    assert stub.GetDiagramState(messages.GetDiagramStateRequest(diagram_id=world.diagram_id)).update_vector == 1
    access = stub.CheckAccess(messages.CheckAccessRequest(diagram_id=world.diagram_id, principals=[world.owner]))
    assert list(access.roles) == [messages.Role.ROLE_OWNER]


def test_errors_cross_with_their_code(concurrent_world: World, stub: SequencerStub) -> None:
    request = messages.GetSessionRequest(
        threat_model_id=concurrent_world.threat_model_id, diagram_id=str(uuid.uuid4()), principal=concurrent_world.owner
    )
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetSession(request)
    error = from_rpc_error(caught.value)
    assert (error.status, error.code) == (404, "not_found")
