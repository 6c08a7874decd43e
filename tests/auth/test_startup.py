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
from tests.auth.client import ENCRYPTION_KEY

STRONG = "kX2vQ9-tR4mZ7pL1wC8nB5jH3gF6dS0a"
PRODUCTION: dict[str, Any] = {
    "build_mode": "production",
    "cookie_secure": True,
    "secret_settings_encryption_key": ENCRYPTION_KEY,
}


def settings(**changes: Any) -> Settings:
    base = {"build_mode": "dev", "redis_url": "redis://h", "database_url": "postgresql://u:p@h/d"}
    return Settings(**{**base, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"jwt_signing_method": "HS256", "jwt_secret": STRONG},
        PRODUCTION,
        PRODUCTION | {"cookie_secure": False, "server_tls_enabled": True},
        PRODUCTION | {"cookie_secure": False, "cookie_enabled": False},
        PRODUCTION | {"oauth_client_callback_allowlist": ["https://a.example/cb", "https://a.example/*"]},
        {"oauth_client_callback_allowlist": ["http://localhost*"]},
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
        ({"jwt_signing_method": "HS256", "jwt_secret": "your-super-strong-jwt-key-2025-x9"}, "TMI_JWT_SECRET"),
        ({"jwt_signing_method": "HS256", "jwt_secret": "CHANGE-me-in-production-0123456789"}, "TMI_JWT_SECRET"),
        (PRODUCTION | {"cookie_secure": False}, "TMI_COOKIE_SECURE"),
        (PRODUCTION | {"secret_settings_encryption_key": ""}, "TMI_SECRET_SETTINGS_ENCRYPTION_KEY"),
        *(
            (PRODUCTION | {"oauth_client_callback_allowlist": [entry]}, "TMI_OAUTH_CLIENT_CALLBACK_ALLOWLIST")
            for entry in ("*", "https://*", "https://tmi.example*", "https://tmi.example:443*")
        ),
    ],
)
def test_an_unusable_setting_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(CannotStart, match=named) as caught:
        startup.check(settings(**changes))
    assert STRONG not in str(caught.value)


@pytest.mark.parametrize("value", ["true", "TRUE", "1", " yes "])
def test_the_dev_provider_is_not_for_production(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OAUTH_PROVIDERS_TMI_ENABLED", value)
    startup.check(settings())
    with pytest.raises(CannotStart, match="OAUTH_PROVIDERS_TMI_ENABLED"):
        startup.check(settings(**PRODUCTION))
    monkeypatch.setenv("OAUTH_PROVIDERS_TMI_ENABLED", "false")
    startup.check(settings(**PRODUCTION))


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
        ({"TMI_CORS_ALLOWED_ORIGINS": "*"}, "TMI_CORS_ALLOWED_ORIGINS"),
        ({"TMI_WEBSOCKET_ALLOWED_ORIGINS": "https://*.example"}, "TMI_WEBSOCKET_ALLOWED_ORIGINS"),
        ({"TMI_REDIS_URL": "redis://h"}, "TMI_SECRET_SETTINGS_ENCRYPTION_KEY"),
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
    refused = run(project, "rotate-keys", **environment)
    assert refused.returncode == 1
    assert "TMI_SECRET_SETTINGS_ENCRYPTION_KEY" in refused.stderr
    rotated = run(project, "rotate-keys", **environment, TMI_SECRET_SETTINGS_ENCRYPTION_KEY=ENCRYPTION_KEY)
    assert rotated.returncode == 0
    assert "signs from" in rotated.stdout


def test_another_encryption_key_than_that_of_the_stored_keys_is_one_line(
    project: Path, database_url: str, redis_url: str
) -> None:
    environment = {
        "TMI_DATABASE_URL": database_url,
        "TMI_REDIS_URL": redis_url,
        "TMI_COOKIE_SECURE": "true",
        "TMI_LOG_LEVEL": "error",
    }
    assert run(project, "migrate", **environment).returncode == 0
    stored = {"TMI_SECRET_SETTINGS_ENCRYPTION_KEY": ENCRYPTION_KEY}
    assert run(project, "rotate-keys", **environment, **stored).returncode == 0
    other = bytes(range(1, 33)).hex()
    finished = run(project, **environment, TMI_SECRET_SETTINGS_ENCRYPTION_KEY=other)
    assert finished.returncode == 1
    assert finished.stderr.startswith("auth: The secret of signing key ")
    assert "TMI_SECRET_SETTINGS_ENCRYPTION_PREVIOUS_KEY" in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert other not in finished.stderr


def test_hs256_keys_are_not_rotated_by_the_command(project: Path, database_url: str) -> None:
    finished = run(
        project,
        "rotate-keys",
        TMI_DATABASE_URL=database_url,
        TMI_JWT_SIGNING_METHOD="HS256",
        TMI_JWT_SECRET=STRONG,
        TMI_BUILD_MODE="dev",
        TMI_LOG_LEVEL="error",
    )
    assert finished.returncode == 1
    assert "TMI_JWT_SECRET" in finished.stderr
