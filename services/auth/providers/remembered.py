"""A document of a provider, remembered: fetched when it is first needed, and again when it is old."""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from services.auth.providers.provider import ProviderFailure

logger = logging.getLogger(__name__)

MAX_AGE_SECONDS = 3600.0
COOL_DOWN_SECONDS = 30.0
"""How long the provider is left alone after an attempt that failed, or that was made before its time."""

T = TypeVar("T")


class Remembered(Generic[T]):
    """One document. While the provider is down an old one is used; without one every login fails at once
    until the cool-down is over. Nothing is fetched at the start of the service."""

    def __init__(self, name: str, fetch: Callable[[], T], clock: Callable[[], float]) -> None:
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._value: T | None = None
        self._failure: ProviderFailure | None = None
        self._fetched = self._left_alone_since = float("-inf")

    def get(self) -> T:
        """The document. Raises ProviderFailure when there is none."""
        with self._lock:
            if self._value is None or self._clock() - self._fetched > MAX_AGE_SECONDS:
                self._try()
            if self._value is not None:
                return self._value
            assert self._failure is not None
            raise ProviderFailure(self._failure.code, self._failure.description, self._failure.reason)

    def again(self) -> T:
        """The document as it is now, fetched before its time unless that has just been done. Raises ProviderFailure."""
        with self._lock:
            if self._try():
                self._left_alone_since = self._clock()
        return self.get()

    def _try(self) -> bool:
        """Whether an attempt was made."""
        if self._clock() - self._left_alone_since <= COOL_DOWN_SECONDS:
            return False
        try:
            self._value, self._fetched, self._failure = self._fetch(), self._clock(), None
        except ProviderFailure as failure:
            self._failure = failure
            self._left_alone_since = self._clock()
            logger.warning("identity provider not reached", extra={"what": self._name, "reason": failure.reason})
        return True
