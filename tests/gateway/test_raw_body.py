"""A body whose bytes matter reaches the service as it came."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.shared.operations import http_operations
from tests.gateway.conftest import ClientFactory
from tests.gateway.echo_services import OPERATIONS, EchoServices
from tests.protos import with_rpc

pytestmark = pytest.mark.anyio

FILE = with_rpc(
    'post: "/signed", body: "body"',
    "access: ACCESS_PUBLIC, raw_body: true",
    request="google.api.HttpBody body = 1;",
)
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def services() -> AsyncIterator[EchoServices]:
    echo = EchoServices(operations=[*OPERATIONS, *http_operations([FILE])])
    await echo.start()
    yield echo
    await echo.stop()


@pytest.mark.parametrize(
    "body",
    [
        '{"a": "e\u0301"}'.encode(),
        '\ufeff{"a":1}'.encode(),
        '{"a":"x\u200by"}'.encode(),
        b'{"a":1,"a":2}  \r\n',
        b'{"a":"\xff"}',
        b"{",
        b"\0",
        b"",
    ],
)
async def test_it_is_neither_judged_nor_rewritten(
    client: httpx.AsyncClient, services: EchoServices, body: bytes
) -> None:
    assert (await client.post("/signed", content=body, headers=JSON)).status_code == 200
    assert services.last.body == body


async def test_its_size_and_type_are_judged(open_client: ClientFactory, services: EchoServices) -> None:
    async with open_client(max_body_bytes=10) as client:
        assert (await client.post("/signed", content=b"12345678901", headers=JSON)).status_code == 413
        assert (await client.post("/signed", content=b"a", headers={"Content-Type": "text/xml"})).status_code == 415
        assert services.calls == []
