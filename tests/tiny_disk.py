"""A disk that a test can fill: a small file system, and a PostgreSQL database that is on it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from deploy.embedded.postgres import EmbeddedPostgres

_BYTES = 48 * 1024 * 1024


@dataclass
class TinyDisk:
    """A file system of its own."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leaves not a byte free."""
        self._ballast.write_bytes(bytes(shutil.disk_usage(self.folder).free))

    def free(self) -> None:
        """Gives back what `fill` took."""
        self._ballast.unlink(missing_ok=True)

    @contextmanager
    def database(self, postgres: EmbeddedPostgres) -> Iterator[str]:
        """URL of a new database whose tables and temporary files are here."""
        space = self.folder / "space"
        space.mkdir()
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as server:
            (data,) = server.execute("SHOW data_directory").fetchone() or ("",)
            owner = Path(data).stat()
            os.chown(space, owner.st_uid, owner.st_gid)
            server.execute(f"CREATE TABLESPACE tiny LOCATION '{space}'".encode())
            server.execute("CREATE DATABASE on_tiny TABLESPACE tiny")
            yield postgres.url("on_tiny")
            self.free()
            server.execute("DROP DATABASE on_tiny WITH (FORCE)")
            server.execute("DROP TABLESPACE tiny")


@contextmanager
def mounted() -> Iterator[TinyDisk]:
    """A tiny disk until the block ends. Skips the test, and says so, where nobody may mount one."""
    folder = Path(tempfile.mkdtemp(prefix="tmi-tiny-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_BYTES},mode=755", "tmpfs", str(folder)]
    with ExitStack() as resources:
        resources.callback(folder.rmdir)
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("only root may mount a tiny file system")
        resources.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
        yield TinyDisk(folder)
