"""The binding of handlers, through real gRPC servers of both kinds."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from services.shared import rpc
from services.shared.access import READER, requirement_of
from services.shared.errors import ApiError, forbidden, from_rpc_error, unavailable
from services.shared.principal import Call, metadata_for
from services.shared.startup import CannotStart
from tmi.collaboration.v1 import rooms_pb2
from tmi.collaboration.v1.rooms_pb2_grpc import RoomsStub
from tmi.options.v1.options_pb2 import Access
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1 import threat_models_pb2, threat_models_pb2_grpc

SERVICE = threat_models_pb2.DESCRIPTOR.services_by_name["ThreatModels"]
ALICE = Principal(user_id="1", provider="tmi", provider_id="alice")

Stub = threat_models_pb2_grpc.ThreatModelsStub
Serve = Callable[[rpc.Handler], Stub]


@pytest.fixture
def serve() -> Iterator[Serve]:
    server = grpc.server(ThreadPoolExecutor(2), options=rpc.SERVER_OPTIONS)
    channels = []

    def start(handler: rpc.Handler) -> Stub:
        def translate(error: Exception) -> ApiError | None:
            return unavailable("busy") if isinstance(error, TimeoutError) else None

        rpc.add_service(server, SERVICE, {method.name: handler for method in SERVICE.methods}, translate)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channels.append(grpc.insecure_channel(f"127.0.0.1:{port}"))
        return Stub(channels[0])

    yield start
    for channel in channels:
        channel.close()
    server.stop(None).wait()


def get(stub: Stub, principal: Principal | None = ALICE) -> tuple[Any, dict[str, Any]]:
    request = threat_models_pb2.GetThreatModelRequest(threat_model_id="x")
    metadata = metadata_for(Call(None, principal, "request-1", "http://localhost"))
    answer, call = stub.GetThreatModel.with_call(request, metadata=metadata, timeout=5)
    return answer, dict(call.trailing_metadata() or ())


def failure(stub: Stub, principal: Principal | None = ALICE) -> ApiError:
    with pytest.raises(grpc.RpcError) as caught:
        get(stub, principal)
    return from_rpc_error(caught.value)


def test_a_reply_carries_body_status_and_headers(serve: Serve) -> None:
    def handler(_request: Message, call: Call) -> rpc.Reply:
        call.require(READER)
        return rpc.Reply(b"{}", status=201, headers=[("ETag", '"1"')])

    stub = serve(handler)
    answer, trailing = get(stub)
    assert (answer.data, answer.content_type) == (b"{}", "application/json")
    assert trailing["x-http-status"] == "201"
    assert trailing["x-http-header-etag"] == '"1"'


def test_the_handler_knows_the_caller_and_the_request(serve: Serve) -> None:
    seen: list[Call] = []

    def handler(_request: Message, call: Call) -> rpc.Reply:
        seen.append(call)
        call.require(READER)
        return rpc.Reply()

    get(serve(handler))
    assert seen[0].caller == ALICE
    assert (seen[0].request_id, seen[0].public_url) == ("request-1", "http://localhost")
    assert seen[0].requirement == requirement_of(Access.ACCESS_READER)


def test_a_gated_operation_refuses_an_anonymous_call_before_the_handler(serve: Serve) -> None:
    def handler(_request: Message, _call: Call) -> rpc.Reply:
        raise AssertionError("reached")

    assert failure(serve(handler), principal=None).status == 401


def test_a_service_account_may_not_use_an_operation_for_people(serve: Serve) -> None:
    stub = serve(lambda _request, _call: rpc.Reply())
    robot = Principal(user_id="2", provider_id="sa:1:alice", is_service_account=True)
    metadata = metadata_for(Call(None, robot, "", ""))
    with pytest.raises(grpc.RpcError) as caught:
        stub.DeleteThreatModel(threat_models_pb2.DeleteThreatModelRequest(), metadata=metadata)
    assert from_rpc_error(caught.value).status == 403


def test_an_api_error_reaches_the_caller(serve: Serve) -> None:
    def handler(_request: Message, _call: Call) -> rpc.Reply:
        raise forbidden("No.")

    error = failure(serve(handler))
    assert (error.status, error.message) == (403, "No.")


def test_a_translated_error_is_what_the_service_says_it_is(serve: Serve) -> None:
    def handler(_request: Message, _call: Call) -> rpc.Reply:
        raise TimeoutError

    assert failure(serve(handler)).status == 503


def test_an_unexpected_error_is_500_and_logged_but_not_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def handler(_request: Message, _call: Call) -> rpc.Reply:
        raise KeyError("internal detail")

    with caplog.at_level(logging.ERROR):
        error = failure(serve(handler))
    assert (error.status, error.message) == (500, "An internal error occurred.")
    assert "unexpected error" in caplog.text


def test_a_service_with_a_missing_handler_does_not_start() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    with pytest.raises(CannotStart, match="DeleteThreatModel"):
        rpc.add_service(server, SERVICE, {})


def test_several_replicas_make_one_target() -> None:
    assert rpc.target(["a:1"]) == "a:1"
    assert rpc.target(["127.0.0.1:1", "127.0.0.1:2"]) == "ipv4:127.0.0.1:1,127.0.0.1:2"


ROOMS = rooms_pb2.DESCRIPTOR.services_by_name["Rooms"]


def _scaled(options: tuple[tuple[str, Any], ...]) -> list[tuple[str, Any]]:
    """The options with a third of every time that keepalive knows: gRPC pings once a second at most."""
    scaled = dict(rpc.KEEPALIVE_OPTIONS)
    return [(name, value // 3 if name in scaled and name.endswith("_ms") else value) for name, value in options]


async def test_a_stream_on_which_nobody_speaks_stays_open() -> None:
    """Neither end gives up pinging, and the server does not take the pings for abuse."""

    async def echo(requests: Any, _call: Call) -> Any:
        async for _ in requests:
            yield rooms_pb2.RoomFrames()

    server = grpc.aio.server(options=_scaled(rpc.SERVER_OPTIONS))
    rpc.add_async_service(server, ROOMS, {"Admit": echo, "Attach": echo})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_scaled(rpc.CHANNEL_OPTIONS)) as channel:
        stream: Any = RoomsStub(channel).Attach()  # type: ignore[call-arg]
        await stream.write(rooms_pb2.GatewayFrames())
        await stream.read()
        reading = asyncio.ensure_future(stream.read())
        done, _ = await asyncio.wait([reading], timeout=10)  # ten pings each way; the fourth bad one is too many
        assert not done
        await stream.write(rooms_pb2.GatewayFrames())
        assert await asyncio.wait_for(reading, 10) == rooms_pb2.RoomFrames()
    await server.stop(None)
