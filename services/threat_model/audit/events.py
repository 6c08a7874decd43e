"""The events that somebody can subscribe to. Only these have rows in the outbox."""

_RESOURCES = (
    "threat_model",
    "diagram",
    "document",
    "note",
    "repository",
    "asset",
    "threat",
    "metadata",
    "survey",
    "survey_response",
)
_ACTIONS = ("created", "updated", "deleted")

SUBSCRIBABLE = frozenset(f"{resource}.{action}" for resource in _RESOURCES for action in _ACTIONS) | {
    "document.extraction_completed",
    "document.extraction_failed",
    "addon.invoked",
    "system_audit.admin_write",
}
"""Event types of a webhook subscription."""
