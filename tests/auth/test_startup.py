import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.auth import startup
from services.shared.settings import Settings
from services.shared.startup import CannotStart

STRONG = "kX2vQ9-tR4mZ7pL1wC8nB5jH3gF6dS0a"


def settings(**changes: Any) -> Settings:
    base = {"build_mode": "dev", "redis_url": "redis://h", "database_url": "postgresql://u:p@h/d"}
    return Settings(**{**base, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"jwt_signing_method": "HS256", "jwt_secret": STRONG},
        {"build_mode": "production", "cookie_secure": True},
        {"build_mode": "production", "server_tls_enabled": True},
        {"build_mode": "production", "cookie_enabled": False},
    ],
)
def test_usable_settings(changes: dict[str, Any]) -> None:
    startup.check(settings(**changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"redis_url": ""}, "TMI_REDIS_URL"),
        ({"oauth_callback_url": "localhost"}, "TMI_OAUTH_CALLBACK_URL"),
        ({"jwt_signing_method": "HS256"}, "TMI_JWT_SECRET"),
        ({"jwt_signing_method": "HS256", "jwt_secret": "your-secret-key"}, "TMI_JWT_SECRET"),
        ({"jwt_signing_method": "HS256", "jwt_secret": "a" * 64}, "TMI_JWT_SECRET"),
        ({"jwt_signing_method": "HS256", "jwt_secret": f"-----BEGIN {STRONG}"}, "PEM"),
        ({"jwt_signing_method": "HS256", "jwt_secret": STRONG, "redis_url": f"redis://{STRONG}@h"}, "password"),
        ({"jwt_expiration_seconds": 0}, "TMI_JWT_EXPIRATION_SECONDS"),
        ({"refresh_token_days": 0}, "TMI_REFRESH_TOKEN_DAYS"),
        ({"session_lifetime_days": -1}, "TMI_SESSION_LIFETIME_DAYS"),
        ({"build_mode": "production"}, "TMI_COOKIE_SECURE"),
    ],
)
def test_an_unusable_setting_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(CannotStart, match=named) as caught:
        startup.check(settings(**changes))
    assert STRONG not in str(caught.value)


def run(project: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TMI_")}
    path = f"{project}{os.pathsep}{project / 'build' / 'stubs'}"
    return subprocess.run(
        [sys.executable, "-m", "services.auth", *arguments],
        env={**clean, "PYTHONPATH": path, **environment},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "TMI_REDIS_URL"),
        ({"TMI_REDIS_URL": "redis://h", "TMI_BUILD_MODE": "dev"}, "TMI_DATABASE_URL"),
        ({"TMI_BUILD_MODE": "staging"}, "TMI_BUILD_MODE"),
        ({"TMI_REDIS_URL": "redis://h", "TMI_BUILD_MODE": "dev", "TMI_DATABASE_URL": "foo://h/d"}, "database"),
        ({"TMI_REDIS_URL": "redis://h", "TMI_BUILD_MODE": "dev", "TMI_DATABASE_URL": "sqlserver://h/d"}, "PostgreSQL"),
        ({"TMI_REDIS_URL": "redis://h", "TMI_BUILD_MODE": "dev", "TMI_DATABASE_URL": "nonsense"}, "TMI_DATABASE_URL"),
        ({"TMI_REDIS_URL": "nonsense", "TMI_BUILD_MODE": "dev", "TMI_DATABASE_URL": "sqlite://"}, "TMI_REDIS_URL"),
    ],
)
def test_a_failed_start_is_one_line_and_exit_code_1(project: Path, environment: dict[str, str], named: str) -> None:
    finished = run(project, **environment)
    assert finished.returncode == 1
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.startswith("auth: ")
    assert named in finished.stderr


def test_a_busy_port_is_one_line_and_exit_code_1(project: Path, database_url: str, redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        finished = run(
            project,
            TMI_BUILD_MODE="dev",
            TMI_DATABASE_URL=database_url,
            TMI_REDIS_URL=redis_url,
            TMI_GRPC_PORT=port,
            TMI_LOG_LEVEL="error",
        )
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"auth: 127.0.0.1:{port} is in use: ")
    assert finished.stderr.count("\n") == 1


def test_migrate_and_rotate_keys(project: Path, database_url: str) -> None:
    environment = {"TMI_DATABASE_URL": database_url, "TMI_LOG_LEVEL": "error"}
    assert run(project, "migrate", **environment).returncode == 0
    rotated = run(project, "rotate-keys", **environment)
    assert rotated.returncode == 0
    assert "signs from" in rotated.stdout


def test_hs256_keys_are_not_rotated_by_the_command(project: Path, database_url: str) -> None:
    finished = run(
        project,
        "rotate-keys",
        TMI_DATABASE_URL=database_url,
        TMI_JWT_SIGNING_METHOD="HS256",
        TMI_JWT_SECRET=STRONG,
        TMI_LOG_LEVEL="error",
    )
    assert finished.returncode == 1
    assert "TMI_JWT_SECRET" in finished.stderr
