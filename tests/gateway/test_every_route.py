"""Walks every route that the descriptors declare."""

import httpx
import pytest

from services.shared.operations import HttpOperation
from tests import examples
from tests.gateway.echo_services import OPERATIONS, EchoServices
from tmi.options.v1.options_pb2 import Format

pytestmark = pytest.mark.anyio

VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _named(operations: list[HttpOperation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", operations, ids=lambda operation: operation.operation_id)


def _is_public(operation: HttpOperation) -> bool:
    return not operation.requirement.authenticated


def _verbs(operation: HttpOperation) -> set[str]:
    return {other.verb for other in OPERATIONS if other.path == operation.path}


def _path_is_public(operation: HttpOperation) -> bool:
    return all(_is_public(other) for other in OPERATIONS if other.path == operation.path)


async def _request(
    client: httpx.AsyncClient, operation: HttpOperation, headers: dict[str, str], **changes: str
) -> httpx.Response:
    body, body_headers = examples.content(operation)
    return await client.request(
        changes.get("verb", operation.verb),
        changes.get("path", examples.path(operation)),
        params=examples.query(operation),
        content=body,
        headers=headers | body_headers,
    )


@_named(list(OPERATIONS))
async def test_is_reached_with_a_token(
    client: httpx.AsyncClient, services: EchoServices, operation: HttpOperation
) -> None:
    response = await _request(client, operation, services.authorization())

    assert response.status_code == operation.success_status
    assert services.last.rpc == operation.method.name
    assert services.last.body == examples.content(operation)[0]
    assert (services.last.call.principal is None) == _is_public(operation)


@_named(list(OPERATIONS))
async def test_refuses_an_anonymous_caller_unless_public(
    client: httpx.AsyncClient, services: EchoServices, operation: HttpOperation
) -> None:
    response = await _request(client, operation, {})

    if _is_public(operation):
        assert response.status_code == operation.success_status
    else:
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.json()["error"] == "unauthorized"
        assert services.calls == []


@_named([operation for operation in OPERATIONS if "{" in operation.path])
async def test_refuses_a_malformed_identifier_before_asking_who_calls(
    client: httpx.AsyncClient, operation: HttpOperation
) -> None:
    malformed = {
        field.name: "not-a-uuid" if declaration.format == Format.FORMAT_UUID else "\0"
        for field, declaration in operation.parameters
    }
    response = await _request(client, operation, {}, path=examples.path(operation, **malformed))

    assert (response.status_code, response.json()["error"]) == (400, "invalid_id")


@_named(list(OPERATIONS))
async def test_refuses_the_verbs_it_does_not_have(
    client: httpx.AsyncClient, services: EchoServices, operation: HttpOperation
) -> None:
    own = _verbs(operation)
    for verb in set(VERBS) - own:
        response = await client.request(verb, examples.path(operation), headers=services.authorization())
        assert (response.status_code, response.json()["error"]) == (405, "method_not_allowed")
        allowed = set(response.headers["Allow"].split(", "))
        assert allowed - {"HEAD"} == own | {"OPTIONS"}
        anonymous = await client.request(verb, examples.path(operation))
        assert anonymous.status_code == (405 if _path_is_public(operation) else 401)


@_named([operation for operation in OPERATIONS if operation.verb == "GET"])
async def test_answers_head_as_get_without_body(
    client: httpx.AsyncClient, services: EchoServices, operation: HttpOperation
) -> None:
    head = await _request(client, operation, services.authorization(), verb="HEAD")

    if operation.declaration.no_head:
        assert head.status_code == 405
        assert "HEAD" not in head.headers["Allow"]
        return
    get = await _request(client, operation, services.authorization())
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("Content-Type", "Content-Length"):
        assert head.headers.get(name) == get.headers.get(name)


@_named([operation for operation in OPERATIONS if "GET" not in _verbs(operation)])
async def test_head_needs_a_get(client: httpx.AsyncClient, services: EchoServices, operation: HttpOperation) -> None:
    assert (await client.head(examples.path(operation), headers=services.authorization())).status_code == 405


@_named(list(OPERATIONS))
async def test_options_is_answered_without_a_token(
    client: httpx.AsyncClient, services: EchoServices, operation: HttpOperation
) -> None:
    response = await client.options(examples.path(operation))

    assert (response.status_code, response.content) == (204, b"")
    assert services.calls == []


@_named([operation for operation in OPERATIONS if operation.consumes])
async def test_refuses_a_body_of_another_kind(client: httpx.AsyncClient, operation: HttpOperation) -> None:
    response = await client.request(
        operation.verb, examples.path(operation), content=b"<a/>", headers={"Content-Type": "text/xml"}
    )

    assert (response.status_code, response.json()["error"]) == (415, "unsupported_media_type")
    assert response.headers["Accept"].split(", ") == list(operation.consumes)


@_named([operation for operation in OPERATIONS if operation.path != "/"])
async def test_a_slash_too_many_is_redirected(client: httpx.AsyncClient, operation: HttpOperation) -> None:
    response = await client.request(operation.verb, examples.path(operation) + "/?a=b")

    assert response.status_code == (301 if operation.verb == "GET" else 308)
    location = response.headers["Location"]
    assert "://" not in location
    assert str(response.url.join(location)) == f"http://gateway.test{examples.path(operation)}?a=b"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "X-Request-ID" in response.headers
