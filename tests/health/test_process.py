import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services.shared.api_info import VERSION, build_id


def run_health(project: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(project), str(project / "build" / "stubs")])
    return subprocess.run(
        [sys.executable, "-m", "services.health"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **environment},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_busy_port_is_one_line_and_exit_code_1(project: Path, database_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_health(project, {"TMI_DATABASE_URL": database_url, "TMI_GRPC_PORT": port})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"health: 127.0.0.1:{port} is in use: ")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "TMI_DATABASE_URL"),
        ({"TMI_DATABASE_URL": "mongodb://x/y"}, "unsupported database scheme"),
        ({"TMI_DATABASE_URL": "mysql://x/y"}, "supported are PostgreSQL"),
        ({"TMI_DATABASE_URL": "sqlite:///x", "TMI_GRPC_PORT": "many"}, "TMI_GRPC_PORT"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_1(project: Path, environment: dict[str, str], said: str) -> None:
    done = run_health(project, environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_version_is_that_of_the_package(project: Path) -> None:
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"] == VERSION


@pytest.mark.parametrize(
    ("commit", "build"), [("", VERSION), ("abc", VERSION), ("0123456789", f"{VERSION}-0123456"), ("<script>", VERSION)]
)
def test_the_build_id_names_a_commit_only_when_it_looks_like_one(commit: str, build: str) -> None:
    assert build_id(commit) == build
