"""Timestamps on the wire: RFC 3339, UTC, microseconds."""

from datetime import UTC, datetime


def now() -> datetime:
    """The present time, timezone-aware, in UTC."""
    return datetime.now(UTC)


def to_text(value: datetime) -> str:
    """`2026-01-31T12:00:00.000000Z` for an aware datetime."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_text(text: str) -> datetime:
    """An aware datetime in UTC. Raises ValueError for anything but RFC 3339 date-time."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None or "T" not in text.upper():
        raise ValueError("not an RFC 3339 date-time")
    return value.astimezone(UTC)
