"""Running a job in the client process and reading the CPU time that the system spent on it."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import psutil

from deploy.embedded.process import PROJECT
from deploy.embedded.stack import Stack

STORES = ("postgres-1", "valkey-1")


@dataclass(frozen=True)
class CpuSeconds:
    """CPU time, user and system, by process label."""

    by_label: dict[str, float]

    def __sub__(self, earlier: "CpuSeconds") -> "CpuSeconds":
        return CpuSeconds({label: value - earlier.by_label.get(label, 0.0) for label, value in self.by_label.items()})

    @property
    def system(self) -> float:
        """Gateways and services."""
        return sum(value for label, value in self.by_label.items() if label not in STORES)

    @property
    def stores(self) -> float:
        """PostgreSQL with its back ends, and Valkey."""
        return sum(value for label, value in self.by_label.items() if label in STORES)


@dataclass(frozen=True)
class Measurement:
    """One row of the table. latencies in seconds, sorted; count is answers or deliveries."""

    name: str
    count: int
    elapsed: float
    latencies: Sequence[float]
    cpu: CpuSeconds
    problem: str = ""

    @property
    def throughput(self) -> float:
        """Answers or deliveries a second."""
        return self.count / self.elapsed

    @property
    def per_cpu_second(self) -> float:
        """Answers or deliveries for each CPU second of gateways and services."""
        return self.count / self.cpu.system if self.cpu.system else 0.0

    def quantile(self, share: float) -> float:
        """Latency in milliseconds that this share of the answers did not exceed."""
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)] * 1000

    def milliseconds_each(self, seconds: float) -> float:
        """Milliseconds for each answer of a total in seconds."""
        return seconds / self.count * 1000


def median(windows: Sequence[Measurement]) -> Measurement:
    """The window in the middle by cost, or one that has a problem: what else the machine does disturbs some of them."""
    if spoilt := next((each for each in windows if each.problem), None):
        return spoilt
    return sorted(windows, key=lambda each: each.per_cpu_second)[len(windows) // 2]


class LoadClient:
    """The client process. A context manager."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.load.client"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def run(self, name: str, job: dict[str, Any], expected_status: int | None = None) -> Measurement:
        """Runs a job and returns what it took. A wrong status or a lost delivery is a problem in the row."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = cpu_seconds(self._stack)
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        after = cpu_seconds(self._stack)
        if not line:
            raise RuntimeError("the load client died")
        result = json.loads(line)
        latencies = sorted(result["latencies"])
        problem = "; ".join(result.get("refused", []))
        wrong = {
            status: number for status, number in result.get("statuses", {}).items() if int(status) != expected_status
        }
        if expected_status is not None and wrong:
            problem = f"unexpected statuses {wrong}"
        return Measurement(name, len(latencies), result["elapsed"], latencies or [0.0], after - before, problem)


def cpu_seconds(stack: Stack) -> CpuSeconds:
    """CPU time so far of every process of the stack, children included."""
    total = {}
    for label, pid in stack.pids().items():
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        total[label] = sum(_own_cpu_seconds(member) for member in family)
    return CpuSeconds(total)


def settle(stack: Stack, timeout: float = 30.0) -> None:
    """Returns when the system has been idle for a moment, so that one job's aftermath is not the next one's cost."""
    deadline = time.monotonic() + timeout
    before = cpu_seconds(stack)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = cpu_seconds(stack)
        spent = now - before
        if spent.system + spent.stores < 0.05:
            return
        before = now


def _own_cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
