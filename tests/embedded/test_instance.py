import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.embedded import instance
from deploy.embedded.process import StartFailure


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def test_a_second_supervisor_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with (
        instance.exclusive(tmp_path),
        pytest.raises(StartFailure, match=f"already runs from .*process {os.getpid()}"),
        instance.exclusive(tmp_path),
    ):
        pass
    with instance.exclusive(tmp_path):
        pass


def test_what_a_killed_supervisor_left_is_stopped(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    pid_file = tmp_path / "run" / "auth-1.pid"
    pid_file.parent.mkdir()
    pid_file.write_text(f"{sleeper.pid}\n")
    assert instance.stop_leftovers(tmp_path) == ["auth-1"]
    assert not psutil.pid_exists(sleeper.pid)
    assert not pid_file.exists()


def test_a_process_that_started_after_the_pid_file_was_written_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    pid_file = tmp_path / "run" / "auth-1.pid"
    pid_file.parent.mkdir()
    pid_file.write_text(f"{sleeper.pid}\n")
    long_ago = time.time() - 3600
    os.utime(pid_file, (long_ago, long_ago))
    assert instance.stop_leftovers(tmp_path) == []
    assert sleeper.poll() is None


@pytest.mark.parametrize("content", ["", "nonsense", "999999999"])
def test_a_broken_or_stale_pid_file_is_removed(tmp_path: Path, content: str) -> None:
    pid_file = tmp_path / "run" / "auth-1.pid"
    pid_file.parent.mkdir()
    pid_file.write_text(content)
    assert instance.stop_leftovers(tmp_path) == []
    assert not pid_file.exists()
