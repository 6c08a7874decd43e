"""What is large and travels beside the bodies: errors, headers, principals. Through real gRPC."""

import httpx
import pytest

from services.shared.errors import invalid_input
from services.shared.rpc import Reply
from tests.gateway.echo_services import EchoServices

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("character", ["x", "\u00e9", "\u5a01", "\U0001f600", "%", "\x01"])
async def test_an_error_that_repeats_what_was_sent_stays_what_it_is(
    client: httpx.AsyncClient, services: EchoServices, character: str
) -> None:
    fields = [{"field": character * 5000, "message": character * 5000}] * 1000
    services.error = invalid_input(character * 100_000, details={"context": {"fields": fields}})
    response = await client.get("/me", headers=services.authorization())
    assert (response.status_code, response.json()["error"]) == (400, "invalid_input")
    assert len(response.content) < 64 * 1024


async def test_headers_of_an_answer_may_be_large(client: httpx.AsyncClient, services: EchoServices) -> None:
    cookies = [("Set-Cookie", f"c{n}=" + "v" * 4000) for n in range(8)]
    services.reply = Reply(b"{}", headers=cookies)
    response = await client.get("/me", headers=services.authorization())
    assert (response.status_code, len(response.headers.get_list("Set-Cookie"))) == (200, 8)


async def test_headers_that_services_read_may_be_large(client: httpx.AsyncClient, services: EchoServices) -> None:
    token = services.signer.token(name="n" * 4000)
    response = await client.get("/me", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200
    assert services.last.call.caller.display_name == "n" * 4000
