"""What `GET /` answers when the health service cannot be reached or fails itself.

Monitors and the web client read the state of the system from this answer, so it must be there in
every state, `error` included. It is the only operation that the gateway knows anything about.
"""

import html
import re
from collections.abc import Callable

import orjson

from gateway.exchange import Exchange
from services.shared import rfc3339
from services.shared.settings import Settings
from tmi.health.v1.health_pb2 import DESCRIPTOR

RPC_PATH = f"/{DESCRIPTOR.services_by_name['Health'].full_name}/GetApiInfo"

API_VERSION = "1.8.22"
"""Version of the REST contract that the system implements."""
_VERSION = "0.1.0"
_COMMIT = re.compile(r"[a-zA-Z0-9]{7}")

Fallback = Callable[[Exchange, str], tuple[str, bytes]]


def fallback(settings: Settings) -> Fallback:
    """Makes content type and body of the answer from the request and its public URL: JSON, or HTML on demand."""
    commit = _COMMIT.match(settings.build_commit)
    build = f"{_VERSION}-{commit.group()}" if commit else _VERSION

    def answer(exchange: Exchange, public_url: str) -> tuple[str, bytes]:
        info: dict[str, object] = {
            "status": {"code": "error", "time": rfc3339.to_text(rfc3339.now())},
            "service": {"name": "TMI", "build": build},
            "api": {"version": API_VERSION, "specification": f"{public_url}/openapi.json"},
        }
        if settings.operator_name or settings.operator_contact:
            info["operator"] = {"name": settings.operator_name, "contact": settings.operator_contact}
        body = orjson.dumps(info, option=orjson.OPT_INDENT_2)
        if "text/html" not in (exchange.header(b"accept") or "").lower():
            return "application/json", body
        page = f"<!doctype html><title>TMI</title><h1>TMI</h1><pre>{html.escape(body.decode())}</pre>\n"
        return "text/html; charset=utf-8", page.encode()

    return answer
