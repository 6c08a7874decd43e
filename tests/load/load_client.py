"""Running jobs in the client process, which reads the CPU time that others spend on them."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from deploy.embedded.process import PROJECT


@dataclass(frozen=True)
class Result:
    """What a job took. latencies in seconds, sorted; cpu in seconds by label."""

    latencies: Sequence[float]
    elapsed: float
    cpu: Mapping[str, float]
    problem: str = ""
    event_bytes: int = 0

    @property
    def count(self) -> int:
        """Answers or deliveries."""
        return len(self.latencies)

    def quantile(self, share: float) -> float:
        """Latency in milliseconds that this share of the answers did not exceed."""
        return self.latencies[min(int(self.count * share), self.count - 1)] * 1000 if self.latencies else 0.0

    def milliseconds_each(self, labels: Iterable[str] | None = None) -> float:
        """CPU milliseconds of the labelled processes, or of all, for each answer or delivery."""
        chosen = self.cpu if labels is None else labels
        return sum(self.cpu[label] for label in chosen) / max(self.count, 1) * 1000


class LoadClient:
    """The client process. A context manager."""

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
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Process id of the client."""
        return self._process.pid

    def run(self, job: dict[str, Any], pids: Mapping[str, int], expected_status: int = 200) -> Result:
        """Runs a job while the processes `pids` are watched. A wrong status or a lost delivery is a problem."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job | {"pids": dict(pids)}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load client died")
        result = json.loads(line)
        before, after = result["cpu"]
        problem = "; ".join(result.get("refused", []))
        wrong = {
            status: number for status, number in result.get("statuses", {}).items() if int(status) != expected_status
        }
        if wrong:
            problem = f"unexpected statuses {wrong}"
        return Result(
            latencies=sorted(result["latencies"]),
            elapsed=result["elapsed"],
            cpu={label: after[label] - before[label] for label in after},
            problem=problem,
            event_bytes=result.get("event_bytes", 0),
        )
