"""How the stores do, as the root's answer tells it when not all is well."""

from typing import Any

from services.health.components import Level, Probe, Snapshot


def store_health(snapshot: Snapshot) -> dict[str, Any] | None:
    """The contract's `health` object, None while everything is well."""
    if snapshot.level is Level.OK:
        return None
    database = snapshot.room if snapshot.database.healthy else snapshot.database
    return {"database": _component_health(database), "redis": _component_health(snapshot.redis)}


def _component_health(probe: Probe) -> dict[str, Any]:
    health = {"status": "healthy" if probe.healthy else "unhealthy", "latency_ms": probe.latency_ms}
    return health | ({"message": probe.message} if probe.message else {})
