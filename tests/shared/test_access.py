"""What the values of the `access` option ask of a caller."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from services.shared import rpc
from services.shared.access import requirement_of
from services.shared.declarations import InvalidDeclaration
from services.shared.errors import ApiError, from_rpc_error
from services.shared.operations import operations_of
from services.shared.principal import ADMINISTRATORS_GROUP_ID, TMI_AUTOMATION_GROUP_ID, Call, metadata_for
from tests.protos import with_rpc
from tmi.options.v1.options_pb2 import Access
from tmi.principal.v1.principal_pb2 import Principal

PERSON = Principal(user_id="1", group_ids=[UUID(ADMINISTRATORS_GROUP_ID).bytes])
ADMINISTRATOR = Principal(user_id="2", is_administrator=True)
ROBOT = Principal(user_id="3", is_service_account=True)
ADMINISTRATORS_ROBOT = Principal(user_id="4", is_service_account=True, is_administrator=True)
AUTOMATION = Principal(user_id="5", is_service_account=True, group_ids=[UUID(TMI_AUTOMATION_GROUP_ID).bytes])
EVERYBODY = [None, PERSON, ADMINISTRATOR, ROBOT, ADMINISTRATORS_ROBOT, AUTOMATION]

# Statuses in the order of EVERYBODY; the handler answers with an owner's role in hand.
STATUSES = {
    "PUBLIC": [200, 200, 200, 200, 200, 200],
    "AUTHENTICATED": [401, 200, 200, 200, 200, 200],
    "READER": [401, 200, 200, 200, 200, 200],
    "READER_INVOKER": [401, 200, 200, 403, 403, 403],
    "WRITER_INVOKER": [401, 200, 200, 403, 403, 403],
    "OWNER_INVOKER": [401, 200, 200, 403, 403, 403],
    "ADMIN": [401, 403, 200, 403, 403, 403],
    "AUTOMATION": [401, 403, 403, 403, 403, 200],
}
ROLES = {"READER": 1, "READER_INVOKER": 1, "WRITER_INVOKER": 2, "OWNER_INVOKER": 3}


@pytest.fixture(params=STATUSES)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, grpc.Channel, str]]:
    """Each value of the option with a server of an operation that declares it."""
    file = with_rpc('get: "/example"', f"access: ACCESS_{request.param}")
    service = file.services_by_name["Example"]

    def handle(_request: object, call: Call) -> rpc.Reply:
        call.require(3)
        return rpc.Reply()

    server = grpc.server(ThreadPoolExecutor(1))
    rpc.add_service(server, service, {"Do": handle})
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield request.param, channel, f"/{service.full_name}/Do"
    server.stop(None).wait()


def test_each_kind_of_caller(served: tuple[str, grpc.Channel, str]) -> None:
    access, channel, path = served
    call = channel.unary_unary(path, HttpBody.SerializeToString, HttpBody.FromString)

    def status(caller: Principal | None) -> int:
        try:
            call(HttpBody(), metadata=metadata_for(Call(None, caller, "", "")), timeout=5)
        except grpc.RpcError as error:
            return from_rpc_error(error).status
        return 200

    assert [status(caller) for caller in EVERYBODY] == STATUSES[access]


@pytest.mark.parametrize("access", STATUSES)
def test_the_role_that_is_needed(access: str) -> None:
    call = Call(requirement_of(Access.Value(f"ACCESS_{access}")), PERSON, "", "")
    needed = ROLES.get(access, 0)
    for role in range(needed, 4):
        call.require(role)
    for role in (None, *range(needed)):
        if not needed:
            call.require(role)
            continue
        with pytest.raises(ApiError) as refusal:
            call.require(role)
        assert (refusal.value.status, refusal.value.code) == (403, "forbidden")


def test_every_value_is_enforced_or_refused() -> None:
    refused = {name.removeprefix("ACCESS_") for name, _ in Access.items()} - set(STATUSES)
    assert refused == {"UNSPECIFIED", "AUTHENTICATED_STEP_UP", "ADMIN_STEP_UP"}
    for name in refused:
        method = with_rpc('get: "/example"', f"access: ACCESS_{name}").services_by_name["Example"].methods[0]
        with pytest.raises(InvalidDeclaration, match=rf"Example\.Do .*(no access|{name} is not implemented)"):
            operations_of(method)
