"""What is refused before any service is asked, through the whole application."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.routes import PUBLIC_PREFIXES
from services.shared.rpc import Reply
from tests.gateway.conftest import ClientFactory
from tests.gateway.echo_services import EchoServices

pytestmark = pytest.mark.anyio

TM = "/threat_models/5d0f0c3e-0000-4000-8000-00000000000a"
JSON = {"Content-Type": "application/json"}


def _error(response: httpx.Response) -> tuple[int, str]:
    document = response.json()
    assert set(document) <= {"error", "error_description", "details"}
    assert document["error_description"]
    return response.status_code, document["error"]


# Accept


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "APPLICATION/JSON", "application/*;q=0.5", "text/html, */*;q=0.1", ""]
)
async def test_accept_that_json_satisfies(client: httpx.AsyncClient, accept: str) -> None:
    assert (await client.get("/oauth2/providers", headers={"Accept": accept})).status_code == 200


@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml", "application/json;q=0", "*/*; q=0.0", "json", "text/*"]
)
async def test_accept_that_json_does_not_satisfy(client: httpx.AsyncClient, accept: str) -> None:
    assert _error(await client.get("/oauth2/providers", headers={"Accept": accept})) == (406, "not_acceptable")


async def test_accept_of_html_is_enough_where_html_is_declared(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    assert (await client.get("/", headers={"Accept": "text/html"})).status_code == 200
    assert services.last.request["accept"] == "text/html"


# Methods and paths


@pytest.mark.parametrize("method", ["TRACE", "BREW", "PROPFIND", "get"])
async def test_unknown_method(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/me") if method != "get" else await _raw_method(client, method)
    assert _error(response) == (405, "method_not_allowed")
    assert "OPTIONS" in response.headers["Allow"]


async def _raw_method(client: httpx.AsyncClient, method: str) -> httpx.Response:
    request = client.build_request("GET", "/me")
    request.method = method
    return await client.send(request)


async def test_unknown_path(client: httpx.AsyncClient, services: EchoServices) -> None:
    assert _error(await client.get("/nowhere")) == (401, "unauthorized")
    response = await client.get("/nowhere", headers=services.authorization())
    assert _error(response) == (404, "not_found")
    assert "GET /nowhere" in response.json()["error_description"]


@pytest.mark.parametrize("prefix", PUBLIC_PREFIXES)
async def test_an_unknown_path_among_public_ones_is_404_without_a_token(client: httpx.AsyncClient, prefix: str) -> None:
    for verb in ("GET", "POST"):
        assert _error(await client.request(verb, f"{prefix}nothing/of/it")) == (404, "not_found")
        assert _error(await client.request(verb, f"{prefix}nothing", headers={"Authorization": "Bearer x"}))[0] == 404


async def test_control_characters_of_the_path_do_not_reach_the_message(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    response = await client.get("/a%0ab%1b" + "x" * 2000, headers=services.authorization())
    message = response.json()["error_description"]
    assert message.isprintable()
    assert len(message) == 1000


async def test_a_path_with_an_empty_identifier(client: httpx.AsyncClient) -> None:
    assert _error(await client.get("/threat_models//threats")) == (400, "invalid_id")
    assert _error(await client.post("/threat_models/%2e%2e")) == (400, "invalid_id")


async def test_a_redirect_stays_on_this_server(client: httpx.AsyncClient, services: EchoServices) -> None:
    response = await client.get("http://gateway.test//evil.example/", headers=services.authorization())
    assert response.status_code == 404
    response = await client.get("/nowhere/", headers=services.authorization())
    assert response.status_code == 404


# Headers


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Content-Length", "Host"])
async def test_duplicate_header(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post("/oauth2/refresh", headers=[(name, "1"), (name, "1")])
    assert _error(response) == (400, "duplicate_header")


async def test_other_headers_may_be_repeated(client: httpx.AsyncClient) -> None:
    headers = [("Accept", "text/plain"), ("Accept", "application/json")]
    assert (await client.get("/oauth2/providers", headers=headers)).status_code == 200


@pytest.mark.parametrize("host", ["a b", "a/b", "user@host", "a:b:c", "a:123456", "[::1", "é"])
async def test_a_host_that_is_none(client: httpx.AsyncClient, host: str) -> None:
    response = await client.get("/oauth2/providers", headers=[(b"Host", host.encode("latin-1"))])
    assert _error(response) == (400, "invalid_request")


# Content-Type


async def test_a_body_needs_a_content_type(client: httpx.AsyncClient) -> None:
    assert _error(await client.post("/threat_models", content=b"{}")) == (400, "invalid_request")
    assert _error(await client.post("/threat_models", content=_chunks(b"{}"))) == (400, "invalid_request")


async def test_a_type_is_compared_without_case_and_parameters(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    headers = services.authorization() | {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await client.post("/threat_models", content=b"{}", headers=headers)).status_code == 201


async def test_each_operation_has_its_own_types(client: httpx.AsyncClient, services: EchoServices) -> None:
    assert _error(await client.patch(TM, content=b"[]", headers=JSON)) == (415, "unsupported_media_type")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post("/oauth2/token", content=b"grant_type=x", headers=form)).status_code == 200
    assert services.last.body == b"grant_type=x"
    assert _error(await client.post("/oauth2/refresh", content=b"a=b", headers=form)) == (415, "unsupported_media_type")
    response = await client.post("/threat_models", headers=[(b"Content-Type", "application/é".encode())])
    assert _error(response) == (400, "invalid_input")


async def test_an_operation_without_body_ignores_one(client: httpx.AsyncClient, services: EchoServices) -> None:
    response = await client.request("DELETE", TM, content=b"<a/>", headers=services.authorization())
    assert response.status_code == 204


async def test_a_body_may_be_left_out(client: httpx.AsyncClient, services: EchoServices) -> None:
    assert (await client.post("/oauth2/refresh")).status_code == 200
    assert (await client.post("/me/logout", headers=services.authorization() | JSON)).status_code == 204
    assert services.last.body == b""


# Size


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_body_of_the_largest_size_passes(open_client: ClientFactory, services: EchoServices) -> None:
    async with open_client(max_body_bytes=10) as client:
        headers = services.authorization() | JSON
        assert (await client.post("/threat_models", content=b"12345678.1", headers=headers)).status_code == 201
        response = await client.post("/threat_models", content=_chunks(b"12345", b"678.1"), headers=headers)
        assert response.status_code == 201
        assert services.last.body == b"12345678.1"


async def test_a_larger_body_is_refused_by_its_length_and_while_reading(open_client: ClientFactory) -> None:
    async with open_client(max_body_bytes=10) as client:
        for content in (b"12345678901", _chunks(b"123456", b"789012")):
            response = await client.post("/threat_models", content=content, headers=JSON)
            assert _error(response) == (413, "payload_too_large")
            assert response.headers["Connection"] == "close"


@pytest.mark.parametrize(("length", "status"), [("x", 400), ("-1", 400), ("9" * 30, 413), ("", 400)])
async def test_a_content_length_that_cannot_be_right(client: httpx.AsyncClient, length: str, status: int) -> None:
    response = await client.post("/oauth2/refresh", headers=JSON | {"Content-Length": length})
    assert response.status_code == status


# JSON and Unicode


@pytest.mark.parametrize(
    "body", [b"{", b'{"a":1,"a":2}', b'{"a":1}{}', b"NaN", b"[" * 200 + b"]" * 200, b'{"a":"\xff"}', b" "]
)
async def test_a_body_that_is_not_strict_json(client: httpx.AsyncClient, body: bytes) -> None:
    assert _error(await client.post("/threat_models", content=body, headers=JSON)) == (400, "invalid_input")


async def test_a_json_patch_is_json_too(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json-patch+json"}
    assert _error(await client.patch(TM, content=b"[", headers=headers)) == (400, "invalid_input")


async def test_a_form_is_not_judged_as_json(client: httpx.AsyncClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded; from=json"}
    assert (await client.post("/oauth2/token", content=b"a=%E2%80%8B", headers=form)).status_code == 200


async def test_characters_that_deceive(client: httpx.AsyncClient) -> None:
    for body in ('{"a":"x\u2060y"}'.encode(), b'{"a":"x\\u202ey"}'):
        assert _error(await client.post("/threat_models", content=body, headers=JSON)) == (400, "invalid_request")


async def test_services_get_the_normalised_body(client: httpx.AsyncClient, services: EchoServices) -> None:
    body = '{"a":"e\u0301 A & B <x> it\'s"}'.encode()
    await client.post("/threat_models", content=body, headers=services.authorization() | JSON)
    assert json.loads(services.last.body) == {"a": "é A & B <x> it's"}


# Precedence


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "expected"),
    [
        ("GET", "/nowhere", {"Accept": "text/csv"}, b"", 406),
        ("TRACE", "/threat_models/x", {}, b"", 405),
        ("POST", "/threat_models/x/threats", JSON, b"{", 400),
        ("POST", "/threat_models", JSON, b"{", 400),
        ("POST", "/threat_models", {"Content-Type": "text/plain"}, b"{", 415),
        ("GET", "/threat_models?limit=0", {}, b"", 401),
        ("PUT", "/threat_models", {}, b"", 401),
        ("POST", "/oauth2/providers", {}, b"", 405),
        ("OPTIONS", "/threat_models/x", {"Accept": "text/csv"}, b"", 204),
        ("GET", "/livez", {"Accept": "text/csv"}, b"", 200),
    ],
)
async def test_which_fault_of_an_anonymous_request_is_told(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], content: bytes, expected: int
) -> None:
    assert (await client.request(method, path, headers=headers, content=content)).status_code == expected


async def test_the_query_is_judged_after_the_token(client: httpx.AsyncClient, services: EchoServices) -> None:
    response = await client.get("/threat_models?limit=0", headers=services.authorization())
    assert _error(response) == (400, "invalid_input")


async def test_nothing_refused_reaches_a_service(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.reply = Reply()
    await client.get("/threat_models")
    await client.post("/threat_models", content=b"{", headers=JSON | services.authorization())
    await client.get("/threat_models?limit=0", headers=services.authorization())
    assert services.calls == []
