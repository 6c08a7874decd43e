"""One stack per folder: a lock for its supervisor, and an end to what a killed supervisor left behind."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deploy.embedded.process import StartFailure

_STOP_SECONDS = 10.0
_CLOCK_SLACK_SECONDS = 2.0
"""How far the kernel's start time of a process and the time of a file may disagree."""


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Holds the stack of a directory. Raises StartFailure when another supervisor does."""
    file = directory / "run" / "supervisor.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StartFailure(
                f"TMI already runs from {directory} (process {holder}): stop it there with Ctrl-C, or use it."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def stop_leftovers(directory: Path) -> list[str]:
    """Stops processes of this stack that outlived their supervisor; returns their names.

    Process ids are reused: a process that started after its pid file was written is somebody else's.
    Servers of data stop last, and with the signal that ends them soonest without loss.
    """
    found: dict[str, psutil.Process] = {}
    for file in sorted((directory / "run").glob("*.pid")):
        with suppress(ValueError, psutil.Error):
            process = psutil.Process(int(file.read_text()))
            if process.create_time() <= file.stat().st_mtime + _CLOCK_SLACK_SECONDS:
                found[file.stem] = process
        file.unlink(missing_ok=True)
    stores = {name: process for name, process in found.items() if name.startswith(("postgres-", "valkey-"))}
    services = {name: process for name, process in found.items() if name not in stores}
    for group in (services, stores):
        for name, process in group.items():
            process.send_signal(signal.SIGINT if name.startswith("postgres-") else signal.SIGTERM)
        _gone, alive = psutil.wait_procs(list(group.values()), timeout=_STOP_SECONDS)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=_STOP_SECONDS)
    return list(found)
