"""How the application starts and ends, and where WebSockets go."""

import asyncio
from typing import Any, ClassVar
from uuid import UUID

import anyio
import pytest

from gateway import app as module
from gateway.app import create_app, serving
from gateway.routes import Routes
from services.shared import log
from tests.gateway.echo_services import OPERATIONS, EchoServices

pytestmark = pytest.mark.anyio


class _RecordingSocketApp:
    """Stands in for the WebSocket side and records the scopes it was handed."""

    scopes: ClassVar[list[dict[str, Any]]] = []
    closed = 0

    def __init__(self, *_: Any) -> None:
        type(self).scopes = []
        type(self).closed = 0

    async def __call__(self, scope: Any, *_: Any) -> None:
        self.scopes.append(scope)
        assert log.request_id.get() == scope["state"]["request_id"]

    async def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def socket_app(monkeypatch: pytest.MonkeyPatch) -> type[_RecordingSocketApp]:
    monkeypatch.setattr(module, "SocketApp", _RecordingSocketApp)
    return _RecordingSocketApp


async def _nothing(*_: Any) -> Any:
    raise AssertionError


async def test_websockets_are_handed_over_with_a_request_id(
    services: EchoServices, socket_app: type[_RecordingSocketApp]
) -> None:
    async with serving(services.settings(), Routes(OPERATIONS)) as app:
        for headers in ([(b"x-request-id", b"socket-1")], [(b"x-request-id", b"not good")], []):
            await app({"type": "websocket", "path": "/ws", "headers": headers}, _nothing, _nothing)
    names = [scope["state"]["request_id"] for scope in socket_app.scopes]
    assert names[0] == "socket-1"
    assert all(UUID(name) for name in names[1:])
    assert socket_app.closed == 1


async def test_lifespan_opens_and_closes_the_application(
    services: EchoServices, socket_app: type[_RecordingSocketApp]
) -> None:
    application = create_app(services.settings())
    sent: list[str] = []
    messages = ["lifespan.startup"]
    stop = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not messages:
            await stop.wait()
            return {"type": "lifespan.shutdown"}
        return {"type": messages.pop()}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def run() -> None:
        await application({"type": "lifespan"}, receive, send)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            while not sent:
                await anyio.lowlevel.checkpoint()
            assert socket_app.closed == 0
            await application({"type": "websocket", "path": "/ws", "headers": []}, _nothing, _nothing)
            stop.set()
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert socket_app.closed == 1


async def test_a_wrong_proxy_network_is_refused_before_the_start(services: EchoServices) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        create_app(services.settings(trusted_proxies=["nonsense"]))
