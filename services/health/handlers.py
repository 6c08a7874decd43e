"""The RPCs of the health service. They answer from the last snapshot and never wait for a store."""

from collections.abc import Mapping

import orjson

from services.health import page
from services.health.accept import prefers_html
from services.health.components import Level
from services.health.prober import Prober
from services.health.store_health import store_health
from services.shared.api_info import SERVICE_NAME, api_info
from services.shared.errors import unavailable
from services.shared.principal import Call
from services.shared.rpc import AsyncHandler, Reply
from services.shared.settings import Settings
from tmi.health.v1.health_pb2 import GetApiInfoRequest, GetReadinessRequest

_RETRY_AFTER_SECONDS = 5


class HealthHandlers:
    """tmi.health.v1.Health."""

    def __init__(self, settings: Settings, prober: Prober) -> None:
        self._settings = settings
        self._prober = prober

    def by_name(self) -> Mapping[str, AsyncHandler]:
        """Handlers by RPC name."""
        return {"GetApiInfo": self.get_api_info, "GetReadiness": self.get_readiness}

    async def get_api_info(self, request: GetApiInfoRequest, call: Call) -> Reply:
        """What this is and how it does; always 200, `status.code` tells."""
        base = call.public_url or self._settings.public_url or f"http://localhost:{self._settings.server_port}"
        snapshot = self._prober.snapshot
        info = api_info(self._settings, snapshot.level.value, base)
        if health := store_health(snapshot):
            info["health"] = health
        if not prefers_html(request.accept):
            return Reply(orjson.dumps(info), headers=[("Vary", "Accept")])
        rows = [
            ("Build", info["service"]["build"]),
            ("API version", info["api"]["version"]),
            ("Specification", info["api"]["specification"]),
            ("Server time", info["status"]["time"]),
        ]
        if operator := info.get("operator"):
            rows += [("Operator", operator["name"]), ("Contact", operator["contact"])]
        if missing := snapshot.missing():
            rows.append(("Not well", ", ".join(missing)))
        return Reply(
            page.render(SERVICE_NAME, info["status"]["code"], rows),
            content_type="text/html; charset=utf-8",
            headers=[("Vary", "Accept"), ("Content-Security-Policy", page.CONTENT_SECURITY_POLICY)],
        )

    async def get_readiness(self, _request: GetReadinessRequest, _call: Call) -> Reply:
        """200 while requests can be served, degraded or not. Raises ApiError 503 otherwise."""
        snapshot = self._prober.snapshot
        if snapshot.level is Level.ERROR:
            raise unavailable(f"Cannot serve: {', '.join(snapshot.missing())}.", _RETRY_AFTER_SECONDS)
        return Reply(orjson.dumps({"status": snapshot.level.value, "missing": snapshot.missing()}))
