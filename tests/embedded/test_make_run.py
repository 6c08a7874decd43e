"""`make run` as its user sees it: a process in the foreground, lines on the terminal, an exit code."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from deploy.embedded.process import PROJECT

pytestmark = pytest.mark.xdist_group("make-run")

_START = """
import pathlib, sys
from deploy.embedded import __main__ as make_run
make_run.DIRECTORY = pathlib.Path(sys.argv[1])
sys.exit(make_run.main(sys.argv[2:]))
"""


class MakeRun:
    """The command, with data in a folder of the test's."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.directory = directory
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TMI_")}
        path = os.pathsep.join([str(PROJECT), str(PROJECT / "build" / "stubs")])
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(directory), *arguments],
            env={**inherited, "PYTHONPATH": path, **environment},
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output = ""
        self.errors = ""
        self._threads = [
            threading.Thread(target=self._collect, args=(self.process.stdout, "output")),
            threading.Thread(target=self._collect, args=(self.process.stderr, "errors")),
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, stream: Iterator[str], name: str) -> None:
        for line in stream:
            setattr(self, name, getattr(self, name) + line)

    def wait_for_output(self, pattern: str, timeout: float = 90) -> None:
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.output):
            assert time.monotonic() < deadline, self.output
            assert self.process.poll() is None, self.output + self.errors
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout: float = 60) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 60) -> int:
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        return code

    def pids(self) -> dict[str, int]:
        return {file.stem: int(file.read_text()) for file in (self.directory / "run").glob("*.pid")}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def database_url(running: MakeRun) -> str:
    environment = psutil.Process(running.pids()["auth-1"]).environ()
    return environment["TMI_DATABASE_URL"]


def alive(pids: dict[str, int]) -> list[str]:
    return [name for name, pid in pids.items() if psutil.pid_exists(pid)]


@pytest.mark.parametrize("end_signal", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_restarts_what_dies_stops_everything_and_starts_again_on_the_same_data(
    own_folder: Path, end_signal: signal.Signals
) -> None:
    port = free_port()
    running = MakeRun(own_folder, "GATEWAYS=1", "COLLABORATION=2", TMI_SERVER_PORT=port)
    running.wait_for_output(r"TMI runs")
    assert f"http://localhost:{port}" in running.output
    pids = running.pids()
    assert set(pids) == {
        *("postgres-1", "valkey-1", "auth-1", "threat-model-1", "worker-1", "health-1", "gateway-1"),
        *("collaboration-1", "collaboration-2"),
    }
    assert {file.stem for file in (own_folder / "log").glob("*.log")} == set(pids)
    with psycopg.connect(database_url(running)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    for name, shown in (("auth-1", "auth"), ("valkey-1", "Valkey"), ("collaboration-2", "collaboration 2")):
        os.kill(pids[name], signal.SIGKILL)
        running.wait_for_output(rf"{shown} died \(signal 9\), starting it again")
        running.wait_for_output(rf"{shown} is back")
        assert running.pids()[name] != pids[name]
    pids = running.pids()
    assert running.end(end_signal) == 0
    assert "TMI has stopped" in running.output
    assert alive(pids) == []
    assert running.pids() == {}

    again = MakeRun(own_folder, TMI_SERVER_PORT=port)
    again.wait_for_output(r"TMI runs")
    with psycopg.connect(database_url(again)) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
    assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    assert again.end() == 0


def test_a_second_one_on_the_same_folder_is_told_so_and_what_a_killed_one_left_is_cleared(own_folder: Path) -> None:
    port = free_port()
    first = MakeRun(own_folder, TMI_SERVER_PORT=port)
    first.wait_for_output(r"TMI runs")
    second = MakeRun(own_folder, TMI_SERVER_PORT=free_port())
    assert second.wait() == 1
    assert re.fullmatch(r"make run: TMI already runs from .*\(process \d+\).*\n", second.errors)
    left = first.pids()
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    assert sorted(alive(left)) == sorted(left)
    third = MakeRun(own_folder, TMI_SERVER_PORT=port)
    third.wait_for_output(r"TMI runs")
    assert alive(left) == []
    assert third.end() == 0


@pytest.mark.parametrize("end_signal", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_start_ends_it(own_folder: Path, end_signal: signal.Signals) -> None:
    running = MakeRun(own_folder, TMI_SERVER_PORT=free_port())
    running.wait_for_output(r"PostgreSQL ready")
    assert running.end(end_signal) == 0
    assert running.pids() == {}


def test_a_busy_port_is_one_line(own_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = MakeRun(own_folder, TMI_SERVER_PORT=str(port))
        assert running.wait() == 1
    assert re.fullmatch(rf"make run: Port {port} is in use: .*TMI_SERVER_PORT=\d+.*\n", running.errors)
    assert running.pids() == {}


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["GATEWAYS=none"], {}, "GATEWAYS is 'none': it must be a number from 1 to 64."),
        (["REPLICAS=2"], {}, "'REPLICAS=2' is no option"),
        (["PROVIDER=google"], {}, "PROVIDER is 'google': there is oidc."),
        ([], {"TMI_SERVER_PORT": "http"}, "TMI_SERVER_PORT is 'http'"),
        ([], {"TMI_DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "No database answers at"),
        ([], {"TMI_REDIS_URL": "redis://127.0.0.1:1/0"}, "No Redis answers at"),
        ([], {"TMI_LOG_LEVEL": "info", "TMI_GRPC_WORKERS": "many"}, "stopped at its start, exit code 1: "),
    ],
)
def test_what_is_wrong_is_one_line(
    own_folder: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    running = MakeRun(own_folder, *arguments, **{"TMI_SERVER_PORT": free_port(), **environment})
    assert running.wait() == 1
    assert said in running.errors
    assert running.errors.count("\n") == 1
    assert running.pids() == {}
