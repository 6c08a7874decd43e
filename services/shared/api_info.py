"""The answer of `GET /`: what this system is and how it does."""

import re
from typing import Any, Literal

from services.shared import rfc3339
from services.shared.settings import Settings

SERVICE_NAME = "TMI"
VERSION = "0.1.0"
"""Version of this system."""
API_VERSION = "1.8.22"
"""Version of the REST contract that it implements."""

StatusCode = Literal["ok", "degraded", "error"]

_COMMIT = re.compile(r"[a-zA-Z0-9]{7}")


def api_info(settings: Settings, code: StatusCode, public_url: str) -> dict[str, Any]:
    """The contract's ApiInfo object. public_url: the base under which the client sees the API."""
    info: dict[str, Any] = {
        "status": {"code": code, "time": rfc3339.to_text(rfc3339.now())},
        "service": {"name": SERVICE_NAME, "build": build_id(settings.build_commit)},
        "api": {"version": API_VERSION, "specification": public_url.rstrip("/") + "/openapi.json"},
    }
    if settings.operator_name or settings.operator_contact:
        info["operator"] = {"name": settings.operator_name, "contact": settings.operator_contact}
    return info


def build_id(commit: str) -> str:
    """`x.y.z`, or `x.y.z-abcdef0` when the commit is known."""
    short = _COMMIT.match(commit)
    return f"{VERSION}-{short.group()}" if short else VERSION
