"""Volatile messages: only the newest of each kind and socket counts, at a bounded rate."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Coalescer(Generic[Value]):
    """Passes the first value of a key at once and later ones at most every `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._latest: dict[Hashable, Value] = {}
        self._ready_at: dict[Hashable, float] = {}

    def offer(self, key: Hashable, value: Value) -> None:
        """Takes a value in place of the key's earlier one."""
        self._latest[key] = value

    def take(self, now: float) -> list[Value]:
        """The values whose time has come."""
        due = [key for key in self._latest if self._ready_at.get(key, 0.0) <= now]
        self._ready_at = {key: at for key, at in self._ready_at.items() if at > now}
        for key in due:
            self._ready_at[key] = now + self._interval
        return [self._latest.pop(key) for key in due]

    @property
    def wake_at(self) -> float | None:
        """When the next waiting value is due; None when none waits."""
        return min((self._ready_at.get(key, 0.0) for key in self._latest), default=None)
