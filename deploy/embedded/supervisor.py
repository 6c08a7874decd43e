"""Keeps processes running: starts them, waits until they answer, restarts those that die."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from deploy.embedded.process import Process, StartFailure

_POLL_SECONDS = 0.05
_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 5.0
_STABLE_SECONDS = 10.0
"""A process that ran this long starts again with the shortest delay."""


class Change(Enum):
    """What happened to a process."""

    READY = "ready"
    DIED = "died"
    BACK = "back"


@dataclass(frozen=True)
class Event:
    """A change to tell the operator. seconds: how long it took to be ready, or the delay before a restart."""

    change: Change
    label: str
    seconds: float
    reason: str = ""


class _Watched:
    """A process and what the supervisor intends with it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.wanted = True
        self.ready = False
        self.ready_before = False
        self.started_at = 0.0
        self.start_again_at: float | None = 0.0
        self.delay = _FIRST_DELAY_SECONDS
        self.failure = ""


class Supervisor:
    """Watches its processes from a thread of its own.

    A process that ends before it was ever ready has a reason that a restart does not cure (a bad
    setting, a busy port): `wait_ready` then raises StartFailure with its last words.
    """

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._watched: dict[str, _Watched] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def add(self, process: Process) -> None:
        """Starts a process and keeps it running from now on."""
        with self._changed:
            self._watched[process.program.label] = _Watched(process)

    def process(self, label: str) -> Process:
        """The process of a label such as `gateway-1`. Raises KeyError."""
        return self._watched[label].process

    def labels(self) -> list[str]:
        """Every process, in the order in which they were added."""
        return list(self._watched)

    def wait_ready(self, labels: Sequence[str], timeout: float) -> None:
        """Returns when all of them answer. Raises StartFailure when one cannot start or time is up."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                watched = [self._watched[label] for label in labels]
                if failed := next((each for each in watched if each.failure), None):
                    raise StartFailure(failed.failure)
                if all(each.ready for each in watched):
                    return
                if not self._changed.wait(deadline - time.monotonic()):
                    late = next(each for each in watched if not each.ready).process
                    raise StartFailure(
                        f"{late.program.label} did not answer within {timeout:.0f} s: see {late.program.log}"
                    )

    def wait_replaced(self, label: str, pid: int, timeout: float) -> None:
        """Returns when another process than `pid` answers as `label`. Raises StartFailure when time is up."""
        with self._changed:
            watched = self._watched[label]
            if not self._changed.wait_for(lambda: watched.ready and watched.process.pid not in (None, pid), timeout):
                raise StartFailure(
                    f"{label} was not replaced within {timeout:.0f} s: see {watched.process.program.log}"
                )

    def hold(self, label: str, *, kill: bool = False) -> None:
        """Stops a process and does not start it again until `release`."""
        with self._changed:
            watched = self._watched[label]
            watched.wanted = watched.ready = False
            watched.process.stop(kill=kill)

    def release(self, label: str) -> None:
        """Starts a held process again."""
        with self._changed:
            watched = self._watched[label]
            watched.wanted, watched.start_again_at = True, 0.0

    def stop(self, stages: Sequence[Sequence[str]]) -> None:
        """Stops all processes, one stage after the other, each stage at once."""
        self._stopping.set()
        self._thread.join()
        for stage in stages:
            processes = [self._watched[label].process for label in stage if label in self._watched]
            for process in processes:
                process.send(process.program.stop_signal)
            deadline = time.monotonic() + max((process.program.stop_seconds for process in processes), default=0)
            for process in processes:
                process.wait_stopped(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            for watched in list(self._watched.values()):
                with self._changed:
                    events = self._advance(watched)
                    if events:
                        self._changed.notify_all()
                for event in events:
                    self._report(event)

    def _advance(self, watched: _Watched) -> list[Event]:
        """One look at a process: start it when it is time, notice that it answers or died."""
        process, now = watched.process, time.monotonic()
        label = process.program.label
        if not watched.wanted or watched.failure:
            return []
        if watched.start_again_at is not None:
            if now < watched.start_again_at:
                return []
            return self._start(watched, now)
        if process.pid is None:
            return self._bury(watched, now)
        if not watched.ready and process.program.is_ready():
            change = Change.BACK if watched.ready_before else Change.READY
            watched.ready = watched.ready_before = True
            return [Event(change, label, time.monotonic() - watched.started_at)]
        return []

    def _start(self, watched: _Watched, now: float) -> list[Event]:
        watched.start_again_at, watched.started_at = None, now
        try:
            watched.process.start()
        except (OSError, StartFailure) as error:
            return self._failed(watched, now, str(error))
        return []

    def _bury(self, watched: _Watched, now: float) -> list[Event]:
        process = watched.process
        code = process.exit_code or 0
        reason = f"signal {-code}" if code < 0 else f"exit code {code}: {process.last_words()}"
        return self._failed(watched, now, reason)

    def _failed(self, watched: _Watched, now: float, reason: str) -> list[Event]:
        label = watched.process.program.label
        watched.ready = False
        if not watched.ready_before:
            watched.failure = f"{label} stopped at its start, {reason}"
            return [Event(Change.DIED, label, 0.0, reason)]
        if now - watched.started_at > _STABLE_SECONDS:
            watched.delay = _FIRST_DELAY_SECONDS
        watched.start_again_at = now + watched.delay
        event = Event(Change.DIED, label, watched.delay, reason)
        watched.delay = min(watched.delay * 2, _LONGEST_DELAY_SECONDS)
        return [event]
