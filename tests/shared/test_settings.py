from pathlib import Path

import pytest

from services.shared.settings import Settings


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMI_CORS_ALLOWED_ORIGINS", "https://a.example, https://b.example,")
    assert Settings().cors_allowed_origins == ["https://a.example", "https://b.example"]


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "tmi.yaml"
    file.write_text("server_port: 9000\noperator_name: From the file\n")
    monkeypatch.setenv("TMI_CONFIG_FILE", str(file))
    monkeypatch.setenv("TMI_SERVER_PORT", "9001")
    settings = Settings()
    assert settings.server_port == 9001
    assert settings.operator_name == "From the file"
    assert settings.server_interface == "127.0.0.1"


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMI_SERVER_PORT", "")
    assert Settings().server_port == 8080


def test_only_development_builds_allow_the_development_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMI_BUILD_MODE", raising=False)
    production = Settings()
    assert production.build_mode == "production"
    assert production.cors_allowed_origins == []
    assert production.oauth_client_callback_allowlist == []
    development = Settings(build_mode="dev")
    assert "http://localhost:4200" in development.cors_allowed_origins
    assert "http://localhost:4200/oauth2/callback" in development.oauth_client_callback_allowlist


def test_socket_origins_are_their_own_list_or_the_cors_list() -> None:
    settings = Settings(cors_allowed_origins=["https://a.example"])
    assert settings.allowed_socket_origins == ["https://a.example"]
    settings = Settings(cors_allowed_origins=["https://a.example"], websocket_allowed_origins=["https://b.example"])
    assert settings.allowed_socket_origins == ["https://b.example"]


def test_several_replicas_are_named_by_address_or_by_one_dns_name() -> None:
    assert Settings(collaboration_address=["10.0.0.1:1", "10.0.0.2:1"]).collaboration_address[1] == "10.0.0.2:1"
    assert Settings(collaboration_address=["dns:///collaboration:1"]).collaboration_address
    with pytest.raises(ValueError, match="resolves to all of them"):
        Settings(collaboration_address=["one:1", "two:1"])


def test_allowed_origins_are_exact() -> None:
    given = ["https://A.example/", "http://localhost:4200"]
    assert Settings(cors_allowed_origins=given).cors_allowed_origins == ["https://a.example", "http://localhost:4200"]


@pytest.mark.parametrize("origin", ["*", "https://*.example", "example.com", "ftp://a.example", "https://a.example/x"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    for name in ("cors_allowed_origins", "websocket_allowed_origins"):
        with pytest.raises(ValueError, match="is no origin"):
            Settings(**{name: [origin]})  # type: ignore[arg-type]
