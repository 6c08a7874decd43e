"""Logins with a provider of plain OAuth 2."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.auth.providers import configuration
from tests.auth.client import Answer, AuthClient, Service
from tests.auth.conftest import Start
from tests.auth.github_server import GitHubServer, github_server


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with github_server() as server:
        yield server


@pytest.fixture
def service(start: Start, github: GitHubServer) -> Service:
    return start(*configuration.read(github.environment()))


def log_in(client: AuthClient) -> Answer:
    """What the client callback gets."""
    begun = client.authorize(idp="github", login_hint="")
    returned = httpx.get(begun.location, trust_env=False).headers["location"]
    return client.callback(**dict(httpx.URL(returned).params))


def profile(client: AuthClient) -> dict[str, Any]:
    """The claims of the token after a login that works."""
    granted = client.exchange(log_in(client).parameters["code"], idp="github")
    assert granted.status == 0, granted.body
    return client.claims(granted.json["access_token"])


def test_the_numeric_id_is_the_subject_and_the_primary_address_the_users(client: AuthClient) -> None:
    claims = profile(client)
    assert (claims["idp"], claims["sub"]) == ("github", "583231")
    assert (claims["email"], claims["email_verified"]) == ("octocat@example.com", True)
    assert claims["name"] == "octocat", "without a name it is the login"


@pytest.mark.parametrize(
    "emails",
    [
        [],
        {},
        [None],
        [{"email": "octocat@example.com", "primary": True, "verified": False}],
        [{"email": "octocat@example.com", "primary": False, "verified": True}],
        [{"email": "octocat@example.com", "primary": "true", "verified": "true"}],
        [{"email": 7, "primary": True, "verified": True}],
    ],
)
def test_only_a_verified_primary_address_counts(client: AuthClient, github: GitHubServer, emails: object) -> None:
    github.user["email"] = "ceo@example.com"  # what the profile shows is not verified
    github.emails = emails
    claims = profile(client)
    assert claims["email"] == "583231@github.oauth.tmi"
    assert "email_verified" not in claims


@pytest.mark.parametrize("identifier", [None, "", True, [1], {"id": 1}, "a\nb"])
def test_without_a_subject_nobody_logs_in(client: AuthClient, github: GitHubServer, identifier: object) -> None:
    github.user["id"] = identifier
    assert log_in(client).parameters["error"] == "provider_response_invalid"


def test_an_error_with_status_200_is_one(client: AuthClient, github: GitHubServer, caplog: Any) -> None:
    begun = client.authorize(idp="github", login_hint="")
    answer = client.callback(code="stolen-upstream-code", state=begun.parameters["state"])
    assert answer.parameters["error"] == "access_denied"
    (record,) = [record for record in caplog.records if record.getMessage() == "login failed"]
    assert record.reason == "the token endpoint says bad_verification_code"
