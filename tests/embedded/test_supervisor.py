import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.embedded.process import Process, StartFailure
from deploy.embedded.supervisor import Change, Supervisor
from tests.embedded.conftest import Recorder

MakeProcess = Callable[..., Process]


def test_a_started_process_is_reported_ready_and_has_a_pid_file_and_a_log(
    supervisor: Supervisor, program: MakeProcess, recorder: Recorder, tmp_path: Path
) -> None:
    process = program()
    supervisor.add(process)
    supervisor.wait_ready(["sample-1"], 15)
    assert int((tmp_path / "run" / "sample-1.pid").read_text()) == process.pid
    assert (tmp_path / "log" / "sample-1.log").read_text() == "serving\n"
    assert recorder.wait_for(lambda event: event.change is Change.READY).label == "sample-1"


def test_a_killed_process_is_restarted_and_said_so(
    supervisor: Supervisor, program: MakeProcess, recorder: Recorder, tmp_path: Path
) -> None:
    process = program()
    supervisor.add(process)
    supervisor.wait_ready(["sample-1"], 15)
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    supervisor.wait_replaced("sample-1", pid, 15)
    assert process.pid not in (None, pid)
    assert int((tmp_path / "run" / "sample-1.pid").read_text()) == process.pid
    assert recorder.wait_for(lambda event: event.change is Change.DIED).reason == "signal 9"
    assert recorder.wait_for(lambda event: event.change is Change.BACK)


def test_a_process_that_keeps_dying_is_restarted_with_growing_delays(
    supervisor: Supervisor, program: MakeProcess, recorder: Recorder, tmp_path: Path
) -> None:
    marker = tmp_path / "second-run"
    code = f"""
import pathlib, sys, time
marker = pathlib.Path({str(marker)!r})
if marker.exists():
    sys.exit("no luck")
marker.write_text("")
pathlib.Path(sys.argv[1]).write_text("up")
time.sleep(60)
"""
    process = program(code=code)
    supervisor.add(process)
    supervisor.wait_ready(["sample-1"], 15)
    process.send(signal.SIGKILL)
    recorder.wait_for(lambda event: event.seconds >= 0.4)
    delays = [event.seconds for event in recorder.events if event.change is Change.DIED]
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert "exit code 1: no luck" in {event.reason for event in recorder.events}


def test_a_process_that_cannot_start_is_a_failure_with_its_last_words(
    supervisor: Supervisor, program: MakeProcess
) -> None:
    supervisor.add(program(code="import sys; sys.exit('port 1 is in use')"))
    with pytest.raises(StartFailure, match="sample-1 stopped at its start, exit code 1: port 1 is in use"):
        supervisor.wait_ready(["sample-1"], 15)


def test_a_process_that_never_answers_is_a_failure_that_names_its_log(
    supervisor: Supervisor, program: MakeProcess
) -> None:
    supervisor.add(program(code="import signal; signal.pause()", stop_seconds=1.0))
    with pytest.raises(StartFailure, match=r"did not answer within 0 s: see .*sample-1\.log"):
        supervisor.wait_ready(["sample-1"], 0.3)


def test_stop_asks_first_and_kills_what_does_not_listen(program: MakeProcess, recorder: Recorder) -> None:
    deaf = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).write_text("up")
time.sleep(60)
"""
    supervisor = Supervisor(recorder)
    polite, stubborn = program("polite"), program("stubborn", deaf, stop_seconds=0.3)
    supervisor.add(polite)
    supervisor.add(stubborn)
    supervisor.wait_ready(["polite-1", "stubborn-1"], 15)
    supervisor.stop([["polite-1"], ["stubborn-1"]])
    assert (polite.exit_code, stubborn.exit_code) == (0, -signal.SIGKILL)
    assert polite.program.pid_file
    assert not polite.program.pid_file.exists()


def test_a_held_process_stays_down_until_it_is_released(supervisor: Supervisor, program: MakeProcess) -> None:
    process = program()
    supervisor.add(process)
    supervisor.wait_ready(["sample-1"], 15)
    supervisor.hold("sample-1", kill=True)
    assert process.pid is None
    with pytest.raises(StartFailure):
        supervisor.wait_ready(["sample-1"], 0.5)
    supervisor.release("sample-1")
    supervisor.wait_ready(["sample-1"], 15)
    assert process.pid is not None


def test_a_process_has_a_session_of_its_own_and_no_tmi_settings_of_its_parent(
    program: MakeProcess, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMI_DATABASE_URL", "postgresql://somebody-elses")
    process = program()
    supervisor.add(process)
    supervisor.wait_ready(["sample-1"], 15)
    assert process.pid is not None
    assert os.getsid(process.pid) == process.pid
    assert "TMI_DATABASE_URL" not in psutil.Process(process.pid).environ()
