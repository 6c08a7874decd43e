"""What the embedded stores have in common: a child process behind a folder of Unix sockets."""

import time
from contextlib import suppress
from pathlib import Path

from deploy.embedded.process import Process, Program, StartFailure

_START_SECONDS = 60.0


class EmbeddedStore:
    """A server of data as a child process."""

    def __init__(self, title: str, program: Program, sockets: Path, *, start: bool) -> None:
        """start=False leaves starting `process` to the caller. Raises StartFailure."""
        self.process = Process(program)
        self._title = title
        self._sockets = sockets
        if start:
            self.start()

    def start(self) -> None:
        """Starts the server unless it runs, and waits until it answers. Raises StartFailure."""
        if self.process.pid is None:
            self.process.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self.process.program.is_ready():
            if self.process.pid is None or time.monotonic() > deadline:
                raise StartFailure(f"{self._title} did not start: {self.process.last_words()}")
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """Stops the server: with its signal, which writes the data, or as a crash would."""
        self.process.stop(kill=kill)
        if not kill:
            with suppress(OSError):
                self._sockets.rmdir()
