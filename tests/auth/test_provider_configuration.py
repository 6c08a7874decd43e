import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.auth.providers.configuration import ProviderConfiguration, is_safe_url, read
from services.shared.startup import CannotStart

SECRET = "never-shown-anywhere"
GOOGLE = {"OAUTH_PROVIDERS_GOOGLE_CLIENT_ID": "id", "OAUTH_PROVIDERS_GOOGLE_CLIENT_SECRET": SECRET}

InFile = Callable[[dict[str, Any]], str]


@pytest.fixture
def in_file(tmp_path: Path) -> InFile:
    """Path of a configuration file with these providers."""

    def write(providers: dict[str, Any]) -> str:
        file = tmp_path / "tmi.yaml"
        file.write_text(yaml.safe_dump({"server": {"port": 1}, "auth": {"oauth": {"providers": providers}}}))
        return str(file)

    return write


def only(found: list[ProviderConfiguration]) -> ProviderConfiguration:
    (provider,) = found
    return provider


@pytest.mark.parametrize(
    ("identifier", "issuer", "endpoint"),
    [
        ("google", "https://accounts.google.com", None),
        ("microsoft", "https://login.microsoftonline.com/{tenantid}/v2.0", None),
        ("github", None, "https://github.com/login/oauth/authorize"),
    ],
)
def test_i8_client_id_and_secret_suffice_for_what_is_built_in(
    identifier: str, issuer: str | None, endpoint: str | None
) -> None:
    prefix = f"OAUTH_PROVIDERS_{identifier.upper()}_"
    provider = only(read({f"{prefix}CLIENT_ID": "id", f"{prefix}CLIENT_SECRET": SECRET}))
    assert (provider.id, provider.issuer, provider.authorization_url) == (identifier, issuer, endpoint)


def test_another_openid_provider_needs_its_issuer_besides() -> None:
    prefix = "OAUTH_PROVIDERS_MY_CORP_"
    fields = {"CLIENT_ID": "id", "CLIENT_SECRET": SECRET, "ISSUER": "https://login.example.com/realms/a"}
    provider = only(read({prefix + name: value for name, value in fields.items()}))
    assert (provider.id, provider.display_name) == ("my-corp", "My Corp")
    assert provider.issuer == "https://login.example.com/realms/a"


def test_plain_oauth2_has_endpoints_and_claims(in_file: InFile) -> None:
    provider = only(
        read(
            {
                "OAUTH_PROVIDERS_FORGE_CLIENT_SECRET": SECRET,
                "OAUTH_PROVIDERS_FORGE_SCOPES": "read:user, email",
                "OAUTH_PROVIDERS_FORGE_USERINFO_CLAIMS_NAME_CLAIM": "full_name",
                "OAUTH_PROVIDERS_FORGE_ADDITIONAL_PARAMS_PROMPT": "select_account",
            },
            in_file(
                {
                    "forge": {
                        "client_id": "id",
                        "client_secret": "replaced by the environment",
                        "authorization_url": "https://forge.example.com/authorize",
                        "token_url": "https://forge.example.com/token",
                        "userinfo_url": "https://forge.example.com/api/me",
                        "userinfo_claims": {"subject_claim": "id", "name_claim": "replaced"},
                    }
                }
            ),
        )
    )
    assert provider.client_secret.get_secret_value() == SECRET
    assert provider.scopes == ["read:user", "email"]
    assert (provider.userinfo_claims.subject_claim, provider.userinfo_claims.name_claim) == ("id", "full_name")
    assert provider.additional_params == {"prompt": "select_account"}


def test_environment_and_file_name_the_same_provider_in_their_own_spelling(in_file: InFile) -> None:
    file = in_file({"Azure_AD": {"client_id": "id", "issuer": "https://login.example.com"}})
    assert only(read({"OAUTH_PROVIDERS_AZURE_AD_CLIENT_SECRET": SECRET}, file)).id == "Azure_AD"


def test_providers_are_in_the_order_of_their_ids_without_disabled_ones_and_the_dev_provider(in_file: InFile) -> None:
    file = in_file(
        {
            "zoo": {"client_id": "id", "client_secret": SECRET, "issuer": "https://zoo.example.com"},
            "off": {"enabled": False},
            "tmi": {"enabled": True},
        }
    )
    environment = {**GOOGLE, "OAUTH_PROVIDERS_TMI_ENABLED": "true", "OAUTH_PROVIDERS_GITHUB_ENABLED": "false"}
    assert [provider.id for provider in read(environment, file)] == ["google", "zoo"]


def test_empty_values_count_as_unset() -> None:
    assert read({"OAUTH_PROVIDERS_GOOGLE_CLIENT_ID": "", "OAUTH_PROVIDERS_GOOGLE_CLIENT_SECRET": ""}) == []


def test_settings_of_other_servers_do_no_harm_and_are_named(caplog: pytest.LogCaptureFixture, in_file: InFile) -> None:
    environment = {**GOOGLE, "OAUTH_PROVIDERS_GOOGLE_ACCEPT_HEADER": "application/json"}
    file = in_file({"google": {"jwks_url": "https://example.com", "token_url": "https://example.com/token"}})
    with caplog.at_level(logging.WARNING):
        provider = only(read(environment, file))
    assert provider.token_url is None
    named = {getattr(record, "field", "") or getattr(record, "variable", "") for record in caplog.records}
    assert named == {"OAUTH_PROVIDERS_GOOGLE_ACCEPT_HEADER", "jwks_url", "token_url"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"client_id": None}, "OAUTH_PROVIDERS_GOOGLE_CLIENT_ID"),
        ({"client_secret": None}, "auth.oauth.providers.google.client_secret"),
        ({"issuer": "http://accounts.google.com"}, "must be an https URL"),
        ({"issuer": "https://user@accounts.google.com"}, "must be an https URL"),
        ({"issuer": None}, "needs an issuer, or authorization_url, token_url and userinfo_url"),
        ({"issuer": "https://a.example/{tenantid}"}, "needs a tenant"),
        ({"issuer": "https://a.example/{tenantid}", "tenant": "example.com"}, "needs a tenant"),
        ({"tenant": "common"}, "has a tenant"),
        (
            {"issuer": "https://a.example/{tenantid}", "tenant": "common", "email_is_verified": True},
            "email_is_verified cannot be promised",
        ),
        ({"additional_params": {"redirect_uri": "https://evil.example"}}, "cannot set redirect_uri"),
        ({"userinfo_claims": {"sub": "id"}}, "userinfo_claims.sub"),
        ({"token_endpoint_auth_method": "none"}, "token_endpoint_auth_method"),
    ],
)
def test_what_is_wrong_stops_the_start_in_one_line_without_the_secret(
    in_file: InFile, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(CannotStart) as caught:
        read({}, in_file({"google": {"client_id": "id", "client_secret": SECRET, **fields}}))
    message = str(caught.value)
    assert said in message
    assert "'google'" in message
    assert SECRET not in message
    assert "\n" not in message


@pytest.mark.parametrize("identifier", ["", "1st", "a b", "a/b", "ä", "x" * 101, "a.b", "../tmi", "a\n"])
def test_an_id_of_odd_characters_is_refused(in_file: InFile, identifier: str) -> None:
    with pytest.raises(CannotStart, match="is no provider"):
        read({}, in_file({identifier: {"client_id": "id", "client_secret": SECRET}}))


@pytest.mark.parametrize("text", ["auth: [", "\x00", "auth: !!python/object:os.system {}"])
def test_a_file_that_is_no_yaml_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tmi.yaml"
    file.write_text(text)
    with pytest.raises(CannotStart, match="cannot be read"):
        read({}, str(file))
    with pytest.raises(CannotStart, match="cannot be read"):
        read({}, str(tmp_path / "missing.yaml"))


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://a.example", True),
        ("https://a.example:8443/x?y=z", True),
        ("http://localhost:9000", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:1", True),
        ("http://a.example", False),
        ("http://127.0.0.1.a.example", False),
        ("http://localhost.a.example", False),
        ("https://user:password@a.example", False),
        ("https://a.example#b", False),
        ("https://a.example:port", False),
        ("https://[a", False),
        ("https://a. example", False),
        ("https://ä.example", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("", False),
    ],
)
def test_providers_are_spoken_to_over_tls(url: str, is_safe: bool) -> None:
    assert is_safe_url(url) is is_safe
