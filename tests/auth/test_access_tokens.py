from datetime import UTC, datetime, timedelta

import orjson
import pytest

from services.auth.directory.groups import Group
from services.auth.directory.users import User
from services.auth.sessions.login_sessions import LoginSession
from services.auth.tokens.access_tokens import claims_of, issuer_of
from services.shared.access_token import principal_of
from services.shared.principal import ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID
from services.shared.settings import Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USER = User("internal", "google", "42", "a@x.example", "Ann", email_verified=False)
SESSION = LoginSession("session", NOW - timedelta(minutes=5), NOW + timedelta(days=1), ())
USER_ID = "7d1f6c1e-0000-4000-8000-000000000001"
SESSION_ID = "7d1f6c1e-0000-4000-8000-000000000002"


def claims(
    user: User = USER, session: LoginSession = SESSION, groups: tuple[Group, ...] = (), lifetime: int = 3600
) -> dict[str, object]:
    return claims_of(
        user, session, groups, issuer="https://i.example", issued_at=int(NOW.timestamp()), lifetime=lifetime
    )


def test_rfc7519_section_4_1_registered_claims() -> None:
    made = claims()
    issued_at = int(NOW.timestamp())
    assert made["iss"] == "https://i.example"
    assert made["aud"] == ["https://i.example"]
    assert made["sub"] == "42"
    assert made["iat"] == made["nbf"] == issued_at
    assert made["exp"] == issued_at + 3600
    assert made["jti"] != claims()["jti"]


def test_the_claims_make_a_principal() -> None:
    principal = principal_of(claims() | {"tmi_user_id": USER_ID, "sid": SESSION_ID})
    assert principal.user_id == USER_ID
    assert (principal.provider, principal.provider_id) == ("google", "42")
    assert principal.session_id == SESSION_ID
    assert principal.auth_time == int(NOW.timestamp()) - 300
    assert not principal.group_ids


def test_a_token_never_outlives_its_session() -> None:
    assert claims(lifetime=10**6)["exp"] == int(SESSION.expires_at.timestamp())


def test_email_verified_is_omitted_when_false() -> None:
    assert "email_verified" not in claims()
    verified = User("internal", "google", "42", "a@x.example", "Ann", email_verified=True)
    assert claims(user=verified)["email_verified"] is True


def test_groups_are_names_of_both_kinds_and_omitted_when_empty() -> None:
    assert "groups" not in claims()
    session = LoginSession("session", NOW, NOW + timedelta(days=1), ("staff", "administrators"))
    made = claims(session=session, groups=(Group("1", "google", "staff", "Staff"), Group("2", "tmi", "red", "Red")))
    assert made["groups"] == ["staff", "administrators", "red"]
    assert "tmi_group_ids" not in made


def test_many_groups_do_not_make_a_large_token() -> None:
    few = tuple(Group(str(n), "tmi", f"group {n}", "G") for n in range(20))
    assert claims(groups=few)["groups"] == [group.name for group in few]
    many = tuple(Group(str(n), "tmi", f"group {n}", "G") for n in range(1000))
    assert "groups" not in claims(groups=many)
    assert len(orjson.dumps(claims(groups=many))) < 1024


def test_a_role_needs_the_built_in_group_and_not_its_name() -> None:
    session = LoginSession("session", NOW, NOW + timedelta(days=1), ("administrators",))
    impostor = Group("1", "google", "administrators", "Administrators")
    assert claims(session=session, groups=(impostor,))["tmi_is_administrator"] is False
    roles = tuple(Group(i, "tmi", i, i) for i in (ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID))
    made = claims(groups=roles)
    assert made["tmi_is_administrator"] is True
    assert made["tmi_is_security_reviewer"] is True


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("http://localhost:8080/oauth2/callback", "http://localhost:8080"),
        ("https://tmi.example/api/oauth2/callback", "https://tmi.example"),
    ],
)
def test_the_issuer_is_the_origin_of_the_callback_url(url: str, issuer: str) -> None:
    assert issuer_of(Settings(oauth_callback_url=url)) == issuer


@pytest.mark.parametrize("url", ["", "tmi.example/cb", "ftp://tmi.example/cb", "https://", "https://u@tmi.example/"])
def test_a_callback_url_without_an_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="TMI_OAUTH_CALLBACK_URL"):
        issuer_of(Settings(oauth_callback_url=url))
