"""The document of the API: complete, consistent in itself, and served to anybody."""

from typing import Any

import httpx
import orjson
import pytest

from gateway import openapi
from services.shared.operations import HttpOperation, http_operations
from tests.gateway.echo_services import EchoServices

pytestmark = pytest.mark.anyio

DOCUMENT: dict[str, Any] = orjson.loads(openapi.document(http_operations()))


def described(path: str, verb: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][verb]
    return found


@pytest.mark.parametrize("operation", list(http_operations()), ids=lambda operation: operation.method.full_name)
def test_every_operation_is_described(operation: HttpOperation) -> None:
    found = described(operation.path, operation.verb.lower())
    assert (found["security"] == []) == (not operation.requirement.authenticated)
    assert str(operation.success_status) in found["responses"]
    assert "default" in found["responses"]
    in_path = {parameter["name"] for parameter in found["parameters"] if parameter["in"] == "path"}
    assert in_path == {part.strip("{}") for part in operation.path.split("/") if part.startswith("{")}
    assert set(found.get("requestBody", {"content": {}})["content"]) == set(operation.consumes)


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids)) == len(list(http_operations()))


def test_a_parameter_tells_its_limits() -> None:
    parameters = {parameter["name"]: parameter for parameter in described("/threat_models", "get")["parameters"]}
    assert parameters["limit"]["schema"] == {
        "type": "integer",
        "format": "int32",
        "minimum": 1,
        "maximum": 100,
        "default": 20,
    }
    assert parameters["created_after"]["schema"]["format"] == "date-time"
    assert parameters["status"]["schema"]["type"] == "array"
    severity = described("/threat_models/{threat_model_id}/threats", "get")["parameters"]
    assert next(one for one in severity if one["name"] == "severity")["schema"]["items"]["enum"][0] == "unknown"
    ticket = described("/ws/ticket", "get")["parameters"][0]
    assert (ticket["name"], ticket["required"], ticket["schema"]["format"]) == ("session_id", True, "uuid")
    if_match = described("/threat_models/{threat_model_id}", "put")["parameters"][-1]
    assert (if_match["name"], if_match["in"], if_match["required"]) == ("if-match", "header", False)


async def test_the_document_is_public(client: httpx.AsyncClient, services: EchoServices) -> None:
    response = await client.get("/openapi.json")
    assert (response.status_code, response.json()) == (200, DOCUMENT)
    assert response.headers["Content-Type"] == "application/json"
    assert not services.calls
    assert (await client.post("/openapi.json")).status_code == 405
