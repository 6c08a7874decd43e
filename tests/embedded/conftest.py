"""Small programs to supervise."""

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.embedded.process import Process, Program
from deploy.embedded.supervisor import Event, Supervisor

_ANSWERS_UNTIL_STOPPED = """
import pathlib, signal, sys
flag = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
flag.write_text("up")
print("serving", flush=True)
signal.pause()
"""


@pytest.fixture
def own_folder(data_folder: Path) -> Path:
    """A folder of the test's own for a server's data."""
    folder = data_folder / secrets.token_hex(8)
    folder.mkdir()
    return folder


class Recorder:
    """Collects events and waits for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def wait_for(self, wanted: Callable[[Event], bool], timeout: float = 15.0) -> Event:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := next((event for event in self.events if wanted(event)), None):
                return found
            time.sleep(0.01)
        raise AssertionError(f"not seen among {self.events}")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def supervisor(recorder: Recorder) -> Iterator[Supervisor]:
    supervisor = Supervisor(recorder)
    yield supervisor
    supervisor.stop([supervisor.labels()])


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Process]:
    """Makes a process that runs `code`, by default one that answers until it is told to stop."""

    def make(name: str = "sample", code: str = _ANSWERS_UNTIL_STOPPED, *, stop_seconds: float = 5.0) -> Process:
        flag = tmp_path / f"{name}.flag"
        return Process(
            Program(
                name=name,
                command=[sys.executable, "-c", code, str(flag)],
                log=tmp_path / "log" / f"{name}-1.log",
                pid_file=tmp_path / "run" / f"{name}-1.pid",
                is_ready=flag.exists,
                prepare=lambda: flag.unlink(missing_ok=True),
                stop_seconds=stop_seconds,
            )
        )

    return make
