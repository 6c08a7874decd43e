"""CPU time of processes, read from outside while they run."""

import platform
import time
from collections.abc import Mapping

import psutil

_IS_LINUX = platform.system() == "Linux"


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds so far, user and system, of the process of each label and of its living children."""
    total = {}
    for label, pid in pids.items():
        process = psutil.Process(pid)
        total[label] = sum(_own(member) for member in (process, *process.children(recursive=True)))
    return total


def _own(process: psutil.Process) -> float:
    try:
        if _IS_LINUX:
            # The clock of clock_getcpuclockid(3): nanoseconds, where /proc/PID/stat counts ticks of 10 ms.
            return time.clock_gettime((~process.pid << 3) | 2)
        times = process.cpu_times()
        return float(times.user + times.system)
    except (OSError, psutil.NoSuchProcess):
        return 0.0  # it has just ended
