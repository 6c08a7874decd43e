"""Calls to the sequencer over real gRPC."""

import grpc
import pytest

from services.collaboration.sequencer_client import READ_LIMITS, SequencerClient
from services.shared.errors import ApiError
from tests.collaboration.fake_sequencer import FakeSequencer
from tmi.threat_model.v1.sequencer_pb2 import ROLE_WRITER, CommittedOperation

pytestmark = pytest.mark.anyio


async def test_log_is_read_in_pieces_when_it_is_too_large_for_one_message() -> None:
    sequencer = FakeSequencer()
    diagram = sequencer.add_diagram(alice=ROLE_WRITER)
    for vector in range(diagram.vector + 1, diagram.vector + 101):
        diagram.log[vector] = CommittedOperation(update_vector=vector, operation=b"x" * 100_000)
    first = diagram.vector
    diagram.vector += 100
    server = grpc.aio.server()
    sequencer.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # The default limit of a message is 4 MiB: a hundred operations are too many, thirty are not.
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        client = SequencerClient(channel)
        response = await client.read_operations(diagram.diagram_id, first)
        assert [operation.update_vector for operation in response.operations] == list(
            range(first + 1, first + 1 + READ_LIMITS[1])
        )
        for operation in diagram.log.values():
            operation.operation = b"x" * 5_000_000
        with pytest.raises(ApiError) as caught:
            await client.read_operations(diagram.diagram_id, first)
        assert caught.value.status == 413
    await server.stop(None)
