"""Sending answers: the only place that emits response messages for HTTP."""

import re

import orjson
from starlette.types import Send

from gateway.exchange import Exchange
from services.shared.errors import ApiError

RawHeaders = list[tuple[bytes, bytes]]

JSON = b"application/json"
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
_BODILESS = (204, 304)


class ClientDisconnected(Exception):
    """The client has gone: there is nobody to answer."""


async def respond(exchange: Exchange, send: Send, status: int, headers: RawHeaders, body: bytes = b"") -> None:
    """Sends a complete answer. The server leaves the body out for HEAD and keeps its length."""
    if status not in _BODILESS:
        headers.append((b"content-length", str(len(body)).encode()))
    exchange.response_started = True
    await send({"type": "http.response.start", "status": status, "headers": headers + exchange.limit_headers})
    await send({"type": "http.response.body", "body": body})


async def begin_response(exchange: Exchange, send: Send, status: int, headers: RawHeaders) -> None:
    """Sends the head of an answer whose length nobody knows yet; `send_chunk` goes on."""
    exchange.response_started = True
    await send({"type": "http.response.start", "status": status, "headers": headers + exchange.limit_headers})


async def send_chunk(send: Send, chunk: bytes, *, more: bool) -> None:
    """Sends a part of an answer that was begun, the last one if not `more`. Waits for a client that is slow."""
    await send({"type": "http.response.body", "body": chunk, "more_body": more})


async def respond_json(exchange: Exchange, send: Send, status: int, body: bytes) -> None:
    """Sends a JSON text."""
    await respond(exchange, send, status, [(b"content-type", JSON)], body)


async def respond_error(exchange: Exchange, send: Send, error: ApiError) -> None:
    """Sends an error."""
    headers, body = error_answer(error, exchange.request_id)
    await respond(exchange, send, error.status, headers, body)


def error_answer(error: ApiError, request_id: str) -> tuple[RawHeaders, bytes]:
    """Headers and body of an error: `{"error", "error_description"}`, with `details` where there are any.

    An internal error carries the request id, which finds it in the logs.
    """
    message, details = error.message, error.details
    if error.status == 500:
        message = f"{message} Request id: {request_id}."
        details = {"context": {"request_id": request_id}}
    document: dict[str, object] = {
        "error": error.code,
        "error_description": _CONTROL_CHARACTERS.sub(" ", message),
    }
    if details:
        document["details"] = details
    headers: RawHeaders = [(b"content-type", JSON)]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    return headers, orjson.dumps(document)
