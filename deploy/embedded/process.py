"""One operating-system process of the stack: how to start it, tell whether it answers, and stop it."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


class StartFailure(Exception):
    """Something cannot start. The message is one line that says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The operating-system account a process runs as."""

    user: int
    group: int


@dataclass(frozen=True)
class Program:
    """What runs as process `number` of `name`, and what tells that it answers.

    environment is added to that of the parent, whose TMI_ variables are not passed on. prepare runs
    before every start. is_ready must return within a second. stop_seconds is how long stop_signal may
    take before SIGKILL follows.
    """

    name: str
    command: Sequence[str]
    log: Path
    is_ready: Callable[[], bool]
    number: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    pid_file: Path | None = None

    @property
    def label(self) -> str:
        """`collaboration-2`: the name of its pid file and its log."""
        return f"{self.name}-{self.number}"


class Process:
    """The running instance of a program, if there is one."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._child.pid if self._child and self._child.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last run; negative for a signal, None while it runs or never ran."""
        return self._child.poll() if self._child else None

    def start(self) -> None:
        """Starts the program in a session of its own, so that Ctrl-C reaches the supervisor alone."""
        program = self.program
        program.prepare()
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as output:
            self._child = subprocess.Popen(
                program.command,
                cwd=PROJECT,
                env=_inherited_environment() | dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=program.account.user if program.account else None,
                group=program.account.group if program.account else None,
                extra_groups=[] if program.account else None,
            )
        if program.pid_file:
            program.pid_file.parent.mkdir(parents=True, exist_ok=True)
            program.pid_file.write_text(f"{self._child.pid}\n")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal if it runs."""
        if self._child and self._child.poll() is None:
            self._child.send_signal(number)

    def wait_stopped(self, timeout: float | None = None) -> None:
        """Waits until it has ended, killing it after `timeout` (by default the program's), and removes its pid file."""
        if self._child is None:
            return
        try:
            self._child.wait(self.program.stop_seconds if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self.program.pid_file:
            self.program.pid_file.unlink(missing_ok=True)

    def stop(self, *, kill: bool = False) -> None:
        """Asks it to stop, or kills it as a crash would, and waits until it has ended."""
        self.send(signal.SIGKILL if kill else self.program.stop_signal)
        self.wait_stopped()

    def last_words(self) -> str:
        """The last line it wrote, for a one-line message."""
        with suppress(OSError):
            lines = self.program.log.read_text(errors="replace").splitlines()
            for line in reversed(lines):
                if line.strip():
                    return line.strip()
        return "it wrote nothing"


def _inherited_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TMI_")}
