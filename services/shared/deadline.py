"""The call that a thread works for: work nobody waits for any more is not begun."""

import math
from contextvars import ContextVar
from typing import Protocol

from services.shared.errors import unavailable


class PendingCall(Protocol):
    """What grpc.ServicerContext says about a call."""

    def is_active(self) -> bool:
        """False when the caller has cancelled it or its deadline is over."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until its deadline; None when it has none."""
        ...


_call: ContextVar[PendingCall | None] = ContextVar("call", default=None)


def follow(call: PendingCall) -> None:
    """From now on this thread works for `call`."""
    _call.set(call)


def seconds_left() -> float:
    """Until the deadline of the call that this thread works for: 0 when it is over, infinite without one."""
    call = _call.get()
    if call is None:
        return math.inf
    if not call.is_active():
        return 0.0
    remaining = call.time_remaining()
    return math.inf if remaining is None else remaining


def check() -> None:
    """Raises ApiError 503 when nobody waits for the answer any more."""
    if seconds_left() <= 0:
        raise unavailable("The time for this request is over.")
