"""One RPC with several paths: each is a route and an operation of its own."""

from collections.abc import AsyncIterator

import httpx
import orjson
import pytest

from gateway.routes import Routes
from services.shared.declarations import InvalidDeclaration
from services.shared.operations import http_operations
from tests.gateway.echo_services import OPERATIONS, EchoServices
from tests.protos import compiled, with_rpc

pytestmark = pytest.mark.anyio

UUIDS = [f"5d0f0c3e-0000-4000-8000-00000000000{digit}" for digit in "abc"]
FILE = compiled(
    """
    service Notes {
      rpc ListNotes(ListNotesRequest) returns (google.api.HttpBody) {
        option (google.api.http) = {
          get: "/models/{model_id}/notes"
          additional_bindings: {get: "/models/{model_id}/threats/{threat_id}/notes"}
          additional_bindings: {get: "/models/{model_id}/assets/{asset_id}/notes"}
        };
        option (tmi.options.v1.operation) = {
          access: ACCESS_READER, operation_ids: ["listModelNotes", "listThreatNotes", "listAssetNotes"]
        };
      }
    }
    message ListNotesRequest {
      string model_id = 1 [(tmi.options.v1.parameter).format = FORMAT_UUID];
      string threat_id = 2 [(tmi.options.v1.parameter).format = FORMAT_UUID];
      string asset_id = 3 [(tmi.options.v1.parameter).format = FORMAT_UUID];
      int32 limit = 4 [(tmi.options.v1.parameter) = {minimum: 1, default_value: "20"}];
    }
    """,
    service="threat_model",
)


@pytest.fixture
async def services() -> AsyncIterator[EchoServices]:
    echo = EchoServices(operations=[*OPERATIONS, *http_operations([FILE])])
    await echo.start()
    yield echo
    await echo.stop()


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/models/{}/notes", ["model_id"]),
        ("/models/{}/threats/{}/notes", ["model_id", "threat_id"]),
        ("/models/{}/assets/{}/notes", ["model_id", "asset_id"]),
    ],
)
async def test_a_field_of_another_bindings_path_cannot_be_given_in_any_other_way(
    client: httpx.AsyncClient, services: EchoServices, path: str, given: list[str]
) -> None:
    everything = {"model_id": UUIDS[2], "threat_id": UUIDS[2], "asset_id": UUIDS[2], "limit": "7"}
    headers = services.authorization() | {"threat_id": UUIDS[2], "asset_id": UUIDS[2]}
    headers["Cookie"] = f"threat_id={UUIDS[2]}; asset_id={UUIDS[2]}"
    response = await client.get(path.format(*UUIDS), params=everything, headers=headers)

    assert response.status_code == 200
    assert services.last.rpc == "ListNotes"
    assert services.last.request == dict(zip(given, UUIDS, strict=False)) | {"limit": 7}


async def test_each_binding_is_described(client: httpx.AsyncClient) -> None:
    document = orjson.loads((await client.get("/openapi.json")).content)
    described = {
        operation["operationId"]: {(each["name"], each["in"]) for each in operation["parameters"]}
        for path in document["paths"].values()
        for operation in path.values()
    }
    model, limit = ("model_id", "path"), ("limit", "query")
    assert described["listModelNotes"] == {model, limit}
    assert described["listThreatNotes"] == {model, ("threat_id", "path"), limit}
    assert described["listAssetNotes"] == {model, ("asset_id", "path"), limit}
    assert len(described) == len(OPERATIONS) + 3


def test_paths_that_differ_in_the_names_of_parameters_only_are_refused() -> None:
    files = [
        with_rpc('get: "/a/{x}"', 'access: ACCESS_PUBLIC, operation_ids: ["one"]', request="string x = 1;"),
        with_rpc('put: "/a/{y}"', 'access: ACCESS_PUBLIC, operation_ids: ["two"]', request="string y = 1;"),
    ]
    with pytest.raises(InvalidDeclaration, match=r"differs from /a/\{x\} in the names of parameters only"):
        Routes(http_operations(files))
