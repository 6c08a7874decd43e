"""Ports on the loopback interface, and short folders for Unix sockets."""

import json
import os
import random
import re
import socket
import tempfile
from hashlib import sha256
from pathlib import Path

from deploy.embedded.process import StartFailure

LOOPBACK = "127.0.0.1"
_TEMPORARY = Path("/tmp")  # noqa: S108
_LONGEST_FOLDER = 60
"""Bytes; with the names of folder and socket below it a path stays within the 104 that every Unix allows."""
_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")
_INTERNAL_PORTS = range(20_000, 32_000)
"""Below the ephemeral range, so that no outgoing connection takes a port while its owner restarts."""


def is_free(port: int) -> bool:
    """True when a server may listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class PortRegistry:
    """Internal ports by purpose, kept in a file so that a restart finds its neighbours where they were."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._ports: dict[str, int] = json.loads(file.read_text())
        except (OSError, ValueError):
            self._ports = {}
        self._given: set[int] = set()

    def port(self, purpose: str) -> int:
        """The kept port of this purpose, or a new one when it has none or somebody took it."""
        port = self._ports.get(purpose, 0)
        while not port or port in self._given or not is_free(port):
            port = random.choice(_INTERNAL_PORTS)  # noqa: S311
        self._given.add(port)
        self._ports[purpose] = port
        return port

    def save(self) -> None:
        """Writes the file."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self._ports, indent=1, sort_keys=True))


def socket_folder(data: Path, name: str) -> Path:
    """Where the Unix sockets of the server that keeps its data in `data` lie.

    In the temporary folder, because a socket path is limited to about 100 bytes; in /tmp when TMPDIR names
    a folder that does not serve.
    """
    digest = sha256(os.fsencode(data.resolve())).hexdigest()[:16]
    temporary = Path(tempfile.gettempdir())
    return (temporary if _serves(temporary) else _TEMPORARY) / f"tmi-{name}-{digest}"


def _serves(folder: Path) -> bool:
    """Short, without characters that URLs and settings give a meaning, and open to the account of PostgreSQL."""
    if len(str(folder)) > _LONGEST_FOLDER or not _PLAIN.fullmatch(str(folder)):
        return False
    return os.geteuid() != 0 or all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))


def make_private(folder: Path) -> None:
    """Creates a folder nobody else may enter. Raises StartFailure when it is there and somebody else's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or (os.geteuid() != 0 and folder.stat().st_uid != os.geteuid()):
        raise StartFailure(f"{folder} belongs to somebody else: remove it or set TMPDIR to a folder of your own.")
