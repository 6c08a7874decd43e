"""What every answer carries: request id, security headers, CORS, log line, measurement; and errors."""

import json
import logging
import re
import uuid
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from gateway.middleware.recovery import Recovery
from gateway.responses import ClientDisconnected
from services.shared import log
from services.shared.errors import ApiError, conflict
from services.shared.rpc import Reply
from tests.gateway.conftest import ClientFactory
from tests.gateway.echo_services import EchoServices

pytestmark = pytest.mark.anyio

ORIGIN = "http://localhost:4200"


# Request id


async def test_a_request_id_is_made_and_handed_on(client: httpx.AsyncClient, services: EchoServices) -> None:
    response = await client.get("/me", headers=services.authorization())
    assert uuid.UUID(response.headers["X-Request-ID"])
    assert services.last.call.request_id == response.headers["X-Request-ID"]


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128])
async def test_a_good_request_id_is_kept(client: httpx.AsyncClient, services: EchoServices, given: str) -> None:
    response = await client.get("/me", headers=services.authorization() | {"X-Request-ID": given})
    assert response.headers["X-Request-ID"] == given
    assert services.last.call.request_id == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "é", "a,b", "<a>"])
async def test_a_bad_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    response = await client.get("/livez", headers=[(b"X-Request-ID", given.encode("latin-1"))])
    assert uuid.UUID(response.headers["X-Request-ID"])


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/me", "/me/", "/threat_models/x"])
async def test_errors_and_redirects_carry_every_common_header(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path, headers={"Origin": ORIGIN})
    assert response.headers["X-Request-ID"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Cache-Control"] == "no-store, no-cache, must-revalidate"


# Security headers


async def test_security_headers(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/livez")).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-XSS-Protection"] == "0"
    assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert headers["Permissions-Policy"] == "geolocation=(), microphone=(), camera=()"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in headers
    assert "Server" not in headers


async def test_hsts_only_when_tls_ends_here(open_client: ClientFactory) -> None:
    async with open_client(server_tls_enabled=True) as client:
        response = await client.get("/livez")
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


async def test_policies_of_the_answer_win(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.reply = Reply(
        b"<p>",
        content_type="text/html",
        headers=[("Cache-Control", "public, max-age=3600"), ("Content-Security-Policy", "default-src 'none'")],
    )
    response = await client.get("/")
    assert response.headers.get_list("Cache-Control") == ["public, max-age=3600"]
    assert response.headers.get_list("Content-Security-Policy") == ["default-src 'none'"]


# CORS


async def test_an_allowed_origin_is_named(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/livez", headers={"Origin": ORIGIN})).headers
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in headers["Vary"]
    exposed = set(headers["Access-Control-Expose-Headers"].split(", "))
    assert {
        "ETag",
        "Location",
        "Retry-After",
        "X-Request-ID",
        "WWW-Authenticate",
        "X-RateLimit-Limit",
        "X-Session-Ended",
    } <= exposed


@pytest.mark.parametrize(
    "origin", ["http://evil.example", ORIGIN + "/", ORIGIN + ".evil.example", "http://LOCALHOST:4200", "null", "*"]
)
async def test_another_origin_is_not_named(client: httpx.AsyncClient, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        headers = (await client.request(method, "/livez", headers={"Origin": origin})).headers
        assert not [name for name in headers if name.startswith("access-control-")]
        assert headers["Vary"] == "Origin"


async def test_preflight(client: httpx.AsyncClient) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "if-match"}
    response = await client.options("/any/path", headers=asked)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= set(
        response.headers["Access-Control-Allow-Methods"].split(", ")
    )
    allowed = {name.lower() for name in response.headers["Access-Control-Allow-Headers"].split(", ")}
    assert {
        "authorization",
        "content-type",
        "cache-control",
        "pragma",
        "if-match",
        "if-none-match",
        "x-request-id",
    } <= allowed


async def test_configured_origins_replace_the_development_ones(open_client: ClientFactory) -> None:
    async with open_client(cors_allowed_origins=["https://tmi.example/"]) as client:
        found = (await client.get("/livez", headers={"Origin": "https://tmi.example"})).headers
        assert found["Access-Control-Allow-Origin"] == "https://tmi.example"
        assert "Access-Control-Allow-Origin" not in (await client.get("/livez", headers={"Origin": ORIGIN})).headers


# Log and metrics


async def test_one_log_line_without_secrets(
    client: httpx.AsyncClient, services: EchoServices, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "gateway.access"):
        headers = services.authorization() | {"X-Request-ID": "request-7", "Cookie": "tmi_access_token=cookie-secret"}
        await client.get("/threat_models/5d0f0c3e-0000-4000-8000-00000000000a?token=query-secret", headers=headers)
    [record] = [record for record in caplog.records if record.name == "gateway.access"]
    line = json.loads(log.JsonFormatter("gateway").format(record))
    assert line["route"] == "/threat_models/{threat_model_id}"
    assert (line["method"], line["status"], line["client"]) == ("GET", 200, "127.0.0.1")
    assert line["ms"] >= 0
    text = json.dumps(line)
    assert "secret" not in text
    assert services.signer.token() not in text


async def test_requests_are_measured_by_route(client: httpx.AsyncClient) -> None:
    def count(**labels: str) -> float:
        return REGISTRY.get_sample_value("tmi_http_request_duration_seconds_count", labels) or 0

    known = {"method": "GET", "route": "/oauth2/providers", "status": "200"}
    unknown = {"method": "other", "route": "unmatched", "status": "405"}
    before = count(**known), count(**unknown)
    await client.get("/oauth2/providers")
    await client.request("BREW", "/coffee")
    assert (count(**known), count(**unknown)) == (before[0] + 1, before[1] + 1)


# Errors


async def test_an_error_of_a_service_is_told_as_it_is(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.error = ApiError(
        409, "version_mismatch", "Changed.\x07", headers={"Retry-After": "3"}, details={"context": {"version": 5}}
    )
    response = await client.get("/me", headers=services.authorization())
    assert response.status_code == 409
    assert response.headers["Retry-After"] == "3"
    assert response.json() == {
        "error": "version_mismatch",
        "error_description": "Changed. ",
        "details": {"context": {"version": 5}},
    }


async def test_an_unexpected_error_of_a_service_is_500_with_the_request_id(
    client: httpx.AsyncClient, services: EchoServices
) -> None:
    services.error = RuntimeError("the database password is hunter2")
    response = await client.get("/me", headers=services.authorization() | {"X-Request-ID": "request-8"})
    assert response.status_code == 500
    assert response.json()["error"] == "server_error"
    assert response.json()["details"] == {"context": {"request_id": "request-8"}}
    assert "request-8" in response.json()["error_description"]
    assert "hunter2" not in response.text


async def test_an_unexpected_error_of_the_gateway_is_500_and_logged(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("gateway.parameters.RequestReader.read", fail)
    response = await client.get("/oauth2/providers")
    assert (response.status_code, response.json()["error"]) == (500, "server_error")
    assert response.headers["X-Request-ID"] in response.text
    assert "hunter2" not in response.text
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    [record] = [record for record in caplog.records if record.name == "gateway.middleware.recovery"]
    assert record.exc_info is not None
    assert re.search("hunter2", str(record.exc_info[1]))


async def test_a_long_message_is_cut(client: httpx.AsyncClient, services: EchoServices) -> None:
    services.error = conflict("x" * 2000)
    response = await client.get("/me", headers=services.authorization())
    assert len(response.json()["error_description"]) == 1000


async def test_an_error_after_the_answer_began_is_the_servers_business() -> None:
    from gateway.exchange import EXCHANGE_KEY, Exchange

    scope: dict[str, Any] = {"method": "GET", "path": "/", "headers": []}
    exchange = scope[EXCHANGE_KEY] = Exchange(scope)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def fail_late(*_: Any) -> None:
        exchange.response_started = True
        raise RuntimeError

    async def notice_nobody_is_there(*_: Any) -> None:
        raise ClientDisconnected

    with pytest.raises(RuntimeError):
        await Recovery(fail_late)(scope, receive, send)
    await Recovery(notice_nobody_is_there)(scope, receive, send)
    assert sent == []


# Liveness


async def test_liveness_needs_nobody(open_client: ClientFactory, services: EchoServices) -> None:
    await services.stop()
    async with open_client(ready=False) as client:
        response = await client.get("/livez")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert (await client.head("/livez")).status_code == 200
        refused = await client.post("/livez")
        assert (refused.status_code, refused.json()["error"]) == (405, "method_not_allowed")
        assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"
