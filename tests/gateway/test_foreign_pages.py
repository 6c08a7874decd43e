"""What pages of other origins may make a browser do with its user's cookies: nothing that changes anything."""

from typing import Any

import httpx
import pytest

from services.shared.operations import HttpOperation
from tests import examples
from tests.gateway.conftest import ClientFactory
from tests.gateway.echo_services import OPERATIONS, EchoServices

pytestmark = pytest.mark.anyio

OWN = "http://gateway.test"
LISTED = "http://localhost:4200"
DIAGRAM = "/threat_models/5d0f0c3e-0000-4000-8000-00000000000a/diagrams/5d0f0c3e-0000-4000-8000-00000000000b"
COLLABORATE = f"{DIAGRAM}/collaborate"

FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://gateway.test"},
    {"Origin": "http://gateway.test:8080"},
    {"Origin": "http://gateway.test.evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site"},
]
OURS: list[dict[str, str]] = [
    {},
    {"Origin": OWN},
    {"Origin": OWN, "Sec-Fetch-Site": "cross-site"},
    {"Origin": LISTED},
    {"Origin": LISTED, "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


def _cookie(services: EchoServices, name: str = "tmi_access_token") -> dict[str, str]:
    return {"Cookie": f"theme=dark; {name}={services.signer.token()}"}


def _unsafe() -> list[Any]:
    return [
        pytest.param(operation, id=operation.operation_id)
        for operation in OPERATIONS
        if operation.verb != "GET" and operation.requirement.authenticated
    ]


async def _send(
    client: httpx.AsyncClient, operation: HttpOperation, headers: dict[str, str], *, body: bool = True
) -> httpx.Response:
    content, content_type = examples.content(operation) if body else (b"", {})
    path, query = examples.path(operation), examples.query(operation)
    return await client.request(operation.verb, path, params=query, content=content, headers=content_type | headers)


@pytest.mark.parametrize("operation", _unsafe())
async def test_no_unsafe_operation_is_for_foreign_pages(
    client: httpx.AsyncClient, services: EchoServices, operation: HttpOperation
) -> None:
    for page in FOREIGN:
        response = await _send(client, operation, _cookie(services) | page)
        assert (response.status_code, response.json()["error"]) == (403, "forbidden"), page
    assert not services.calls
    for page in OURS:
        assert (await _send(client, operation, _cookie(services) | page)).status_code < 400, page


@pytest.mark.parametrize(("method", "path"), [("POST", "/me/logout"), ("POST", COLLABORATE), ("DELETE", COLLABORATE)])
async def test_a_request_without_a_body_is_no_exception(
    client: httpx.AsyncClient, services: EchoServices, method: str, path: str
) -> None:
    for page in FOREIGN:
        assert (await client.request(method, path, headers=_cookie(services) | page)).status_code == 403
    assert (await client.request(method, path, headers=_cookie(services) | {"Origin": OWN})).status_code < 400


async def test_the_refresh_cookie_is_a_credential_as_well(client: httpx.AsyncClient, services: EchoServices) -> None:
    headers = _cookie(services, "tmi_refresh_token")
    for page in FOREIGN:
        assert (await client.post("/oauth2/refresh", headers=headers | page)).status_code == 403
    assert (await client.post("/oauth2/refresh", headers=headers | {"Origin": LISTED})).status_code == 200
    # Without the cookie there is nothing that a foreign page could use.
    assert (await client.post("/oauth2/refresh", headers=FOREIGN[0])).status_code == 200


async def test_a_token_in_the_header_is_no_ambient_authority(client: httpx.AsyncClient, services: EchoServices) -> None:
    for page in FOREIGN:
        headers = services.authorization() | _cookie(services) | page
        assert (await client.post("/me/logout", headers=headers)).status_code < 400


async def test_reading_is_left_to_cors(client: httpx.AsyncClient, services: EchoServices) -> None:
    for page in FOREIGN:
        assert (await client.get("/me", headers=_cookie(services) | page)).status_code == 200


async def test_a_large_body_of_a_foreign_page_is_not_kept(client: httpx.AsyncClient, services: EchoServices) -> None:
    headers = _cookie(services) | FOREIGN[0] | {"Content-Type": "application/json"}
    response = await client.post("/threat_models", content=b"x" * 200_000, headers=headers)
    assert response.status_code == 403


async def test_the_public_url_is_our_origin(open_client: ClientFactory, services: EchoServices) -> None:
    async with open_client(public_url="https://tmi.example/api") as client:
        for origin, status in (("https://tmi.example", 200), (OWN, 403), ("http://tmi.example", 403)):
            answer = await client.post("/me/logout", headers=_cookie(services) | {"Origin": origin})
            assert (answer.status_code == 403) == (status == 403), origin


async def test_a_trusted_proxy_names_our_origin(open_client: ClientFactory, services: EchoServices) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "tmi.example", "Origin": "https://tmi.example"}
    for trusted, refused in ((["10.0.0.0/8"], False), ([], True)):
        async with open_client(peer="10.0.0.1", trusted_proxies=trusted) as client:
            answer = await client.post("/me/logout", headers=_cookie(services) | forwarded)
            assert (answer.status_code == 403) == refused


async def test_no_url_is_made_of_what_a_stranger_says(open_client: ClientFactory, services: EchoServices) -> None:
    settings = {"build_mode": "production", "oauth_callback_url": "https://tmi.example/base/oauth2/callback"}
    async with open_client(**settings) as client:
        await client.get("/me", headers=services.authorization() | {"Host": "evil.example"})
        assert services.last.call.public_url == "https://tmi.example/base"
        redirect = await client.get("/me/", headers={"Host": "evil.example"})
        assert redirect.headers["Location"] == "../me"


async def test_redirects_lead_where_they_should(client: httpx.AsyncClient) -> None:
    for path, target in (("/me/", "/me"), ("/oauth2/providers/?a=b", "/oauth2/providers?a=b")):
        response = await client.get(path)
        assert response.status_code == 301
        assert response.url.join(response.headers["Location"]).raw_path.decode() == target
    for path in ("/me//", "/me/%2F", "/me%2F", "/livez/"):
        assert "Location" not in (await client.get(path)).headers
