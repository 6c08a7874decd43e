"""What `GET /` answers when the health service cannot be reached or fails itself.

Monitors and the web client read the state of the system from this answer, so it must be there in
every state, `error` included. It is the only operation that the gateway knows anything about.
"""

import html
from collections.abc import Callable

import orjson

from gateway.exchange import Exchange
from services.shared.api_info import api_info
from services.shared.settings import Settings
from tmi.health.v1.health_pb2 import DESCRIPTOR

RPC_PATH = f"/{DESCRIPTOR.services_by_name['Health'].full_name}/GetApiInfo"

Fallback = Callable[[Exchange, str], tuple[str, bytes]]


def fallback(settings: Settings) -> Fallback:
    """Makes content type and body of the answer from the request and its public URL: JSON, or HTML on demand."""

    def answer(exchange: Exchange, public_url: str) -> tuple[str, bytes]:
        body = orjson.dumps(api_info(settings, "error", public_url), option=orjson.OPT_INDENT_2)
        if "text/html" not in (exchange.header(b"accept") or "").lower():
            return "application/json", body
        page = f"<!doctype html><title>TMI</title><h1>TMI</h1><pre>{html.escape(body.decode())}</pre>\n"
        return "text/html; charset=utf-8", page.encode()

    return answer
