"""A bare Starlette application under the gateway's server: `python -m tests.load.calibration.web_server`.

Prints its port. `GET /` answers a small JSON body; whoever sends a text to `/room?bytes=…` has it
relayed to all other sockets of the room as an event of that many bytes.
"""

import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


async def answer(_: Request) -> JSONResponse:
    """A small JSON body."""
    return JSONResponse({"status": "ok", "version": 1})


_sockets: set[WebSocket] = set()


async def room(websocket: WebSocket) -> None:
    """Relays what one socket sends to the others."""
    await websocket.accept()
    event_bytes = int(websocket.query_params["bytes"])
    _sockets.add(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            event = text.replace("diagram_operation_request", "diagram_operation_event", 1).ljust(event_bytes)
            for other in list(_sockets):
                if other is not websocket:
                    await other.send_text(event)
    except WebSocketDisconnect:
        pass
    finally:
        _sockets.remove(websocket)


def main() -> None:
    """Serves until it is stopped."""
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=[Route("/", answer), WebSocketRoute("/room", room)]),
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
    ).run(sockets=[listener])


if __name__ == "__main__":
    main()
