"""The commands in a folder of any name, with any temporary folder."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.embedded.postgres import EmbeddedPostgres, let_read
from deploy.embedded.process import PROJECT
from deploy.embedded.sockets import socket_folder

ODD_NAME = "odd [bold] é+(1) #x%41&,; y"


@pytest.fixture
def odd_project(own_folder: Path) -> Path:
    """The tracked files in a folder with an odd name, with the packages that are installed here."""
    folder = own_folder / ODD_NAME
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, target)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """That of a user whose temporary folder has an odd and long name."""
    temporary = folder / "temporary files" / ("x" * 100)
    temporary.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TMI_", "PYTHON", "MAKE"))}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {**kept, "TMPDIR": str(temporary), "TMI_SERVER_PORT": str(probe.getsockname()[1])}


def make(*targets: str) -> list[str]:
    """The command line; what is installed counts as new enough."""
    return ["make", "-o", ".venv/runtime", "-o", ".venv/development", *targets]


@pytest.mark.xdist_group("make-run")
def test_the_system_starts_and_stops_in_a_folder_of_any_name(odd_project: Path) -> None:
    variables = environment(odd_project)
    subprocess.run(make("stubs"), cwd=odd_project, env=variables, check=True)
    output = odd_project / "output"
    with output.open("w") as stream:
        running = subprocess.Popen(
            make("run"), cwd=odd_project, env=variables, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "TMI runs" not in output.read_text():
            assert running.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        assert httpx.get(f"http://127.0.0.1:{variables['TMI_SERVER_PORT']}/readyz").status_code == 200
        login = subprocess.run(make("-s", "token"), cwd=odd_project, env=variables, capture_output=True, text=True)
        assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", login.stdout), login.stderr
        pids = [int(file.read_text()) for file in (odd_project / ".tmi" / "run").glob("*.pid")]
        assert len(pids) == 8
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.wait(60)
    assert "TMI has stopped" in output.read_text()
    assert "".join(ODD_NAME.split()) in re.sub(r"[\s│]", "", output.read_text())
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


@pytest.mark.parametrize("name", ["with space", "é", "a,b", "x" * 80, "100%", "a?b", "a#b"])
def test_sockets_lie_where_a_path_serves(own_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    odd = own_folder / name
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    assert socket_folder(own_folder, "postgres").parent == Path("/tmp")
    plain = Path(tempfile.mkdtemp(dir="/tmp", prefix="tmi-"))
    plain.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(plain))
    assert socket_folder(own_folder, "postgres").parent == plain
    plain.rmdir()


def test_postgresql_starts_with_a_temporary_folder_that_is_closed_to_others(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = own_folder / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(closed))
    server = EmbeddedPostgres(own_folder / "data", durable=False)
    try:
        assert server.url("shop")
    finally:
        server.stop()
    assert closed.stat().st_mode & 0o777 == 0o700


def test_what_a_strict_umask_has_closed_is_opened_for_reading(tmp_path: Path) -> None:
    folder = tmp_path / "pginstall"
    (folder / "bin").mkdir(parents=True, mode=0o700)
    program, data, link = folder / "bin" / "postgres", folder / "bin" / "data", folder / "bin" / "link"
    program.touch(0o700)
    data.touch(0o600)
    link.symlink_to("postgres")
    for folder_part in (folder, folder / "bin"):
        folder_part.chmod(0o700)
    let_read(folder)
    shown = [path.stat().st_mode & 0o777 for path in (folder, folder / "bin", program, data, link)]
    assert shown == [0o705, 0o705, 0o705, 0o604, 0o705]
