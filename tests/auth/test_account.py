from collections.abc import Callable, Iterator

from sqlalchemy import delete, update

from services.auth.directory.groups import add_member
from services.auth.directory.tables import users
from services.auth.sessions.tables import login_sessions
from services.shared.principal import ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID
from tests.auth.client import Answer, AuthClient, Service, counted_statements
from tests.auth.conftest import Start
from tests.auth.storage import at_once
from tmi.auth.v1 import me_pb2, oauth_pb2
from tmi.auth.v1.directory_pb2 import ListRevocationsRequest, RevocationKind


def test_me_of_the_first_user_and_of_the_second(client: AuthClient) -> None:
    first, second = client.log_in("alice"), client.log_in("bob")
    assert client.profile(first.access).json == {
        "principal_type": "user",
        "provider": "tmi",
        "provider_id": "alice",
        "display_name": "Alice (TMI User)",
        "email": "alice@tmi.local",
        "is_admin": True,
        "is_security_reviewer": True,
        "groups": [
            {"internal_uuid": ADMINISTRATORS_GROUP_ID, "group_name": "administrators", "name": "Administrators"},
            {
                "internal_uuid": SECURITY_REVIEWERS_GROUP_ID,
                "group_name": "security-reviewers",
                "name": "Security Reviewers",
            },
        ],
    }
    profile = client.profile(second.access).json
    assert (profile["is_admin"], profile["is_security_reviewer"], profile["groups"]) == (False, False, [])


def test_me_shows_roles_of_now_and_not_of_the_token(service: Service) -> None:
    service.client.log_in()
    tokens = service.client.log_in()
    user_id = service.client.claims(tokens.access)["tmi_user_id"]
    service.database.write(lambda c: add_member(c, [ADMINISTRATORS_GROUP_ID], user_id, service.clock()))
    assert service.client.profile(tokens.access).json["is_admin"] is True


def test_two_first_logins_at_once_make_one_administrator(client: AuthClient) -> None:
    codes = [client.authorize(login_hint=name).parameters["code"] for name in ("alice", "bob")]
    waiting = iter(codes)
    answers = at_once(lambda: client.exchange(next(waiting)), 2)
    roles = [client.claims(answer.json["access_token"])["tmi_is_administrator"] for answer in answers]
    assert sorted(roles) == [False, True]


def test_a_configured_administrator_leaves_no_room_for_the_first_user(start: Start) -> None:
    client = start(admin_provider="tmi", admin_provider_id="root").client
    assert client.profile(client.log_in("alice").access).json["is_admin"] is False
    profile = client.profile(client.log_in("root").access).json
    assert (profile["is_admin"], profile["is_security_reviewer"]) == (True, False)


def test_me_costs_two_statements(service: Service) -> None:
    tokens = service.client.log_in()
    service.client.profile(tokens.access)
    claims = service.client.claims(tokens.access)
    assert claims
    with counted_statements(service.database) as statements:
        service.client.profile(tokens.access)
    # The client itself asked for the keys once.
    assert len([text for text in statements if "signing_keys" not in text]) <= 2


def test_a_deleted_account_is_401(service: Service) -> None:
    tokens = service.client.log_in()
    service.database.write(lambda c: c.execute(delete(users)))
    answer = service.client.profile(tokens.access)
    assert (answer.status, answer.error) == (401, "unauthorized")
    assert dict(answer.headers)["www-authenticate"].startswith("Bearer")
    info = service.client.call(service.client.oauth.GetUserInfo, oauth_pb2.GetUserInfoRequest(), tokens.access)
    assert info.status == 401
    assert service.client.refresh(tokens.refresh).error == "invalid_grant"


def test_without_a_principal_everything_about_the_caller_is_401(client: AuthClient) -> None:
    for rpc, request in (
        (client.me.GetMe, me_pb2.GetMeRequest()),
        (client.me.Logout, me_pb2.LogoutRequest()),
        (client.oauth.GetUserInfo, oauth_pb2.GetUserInfoRequest()),
    ):
        answer = client.call(rpc, request)
        assert (answer.status, answer.error) == (401, "unauthorized")


def test_userinfo(service: Service) -> None:
    client = service.client
    tokens = client.log_in("alice")
    service.database.write(lambda c: c.execute(update(login_sessions).values(provider_groups=["staff"])))
    answer = client.call(client.oauth.GetUserInfo, oauth_pb2.GetUserInfoRequest(), tokens.access)
    assert answer.json == {
        "sub": "alice",
        "email": "alice@tmi.local",
        "name": "Alice (TMI User)",
        "idp": "tmi",
        "groups": ["staff", "administrators", "security-reviewers"],
    }
    other = client.call(client.oauth.GetUserInfo, oauth_pb2.GetUserInfoRequest(), client.log_in("bob").access)
    assert "groups" not in other.json


def test_logout_ends_the_session_with_everything_in_it(service: Service) -> None:
    client = service.client
    tokens, other_device = client.log_in("alice"), client.log_in("alice")
    with service.revocations() as following:
        answer = client.log_out(tokens.access)
        revocation = following()
    assert (answer.status, answer.body) == (0, b"")  # the declared success status, 204
    assert all("Max-Age=0" in cookie for cookie in answer.cookies)
    claims = client.claims(tokens.access)
    assert (revocation.kind, revocation.id) == (RevocationKind.REVOCATION_KIND_SESSION, claims["sid"])
    assert revocation.revoked_at >= claims["iat"]
    assert revocation.expires_at >= claims["exp"]
    assert list(client.directory.ListRevocations(ListRevocationsRequest()).revocations) == [revocation]
    assert client.refresh(tokens.refresh).error == "invalid_grant"
    assert client.refresh(other_device.refresh).status == 0


def test_logging_out_twice_is_fine(client: AuthClient) -> None:
    tokens = client.log_in()
    assert [client.log_out(tokens.access).status for _ in range(2)] == [0, 0]


def test_logout_works_without_redis(start: Start) -> None:
    tokens = start().client.log_in()
    without = start(redis_url="unix:///nowhere/valkey.sock").client
    assert without.log_out(tokens.access).status == 0
    assert len(without.directory.ListRevocations(ListRevocationsRequest()).revocations) == 1
    assert without.refresh(tokens.refresh).error == "invalid_grant"
    assert without.profile(tokens.access).status == 0


def test_a_refresh_at_the_moment_of_the_logout_saves_nothing(client: AuthClient) -> None:
    tokens = client.log_in()
    calls: Iterator[Callable[[], Answer]] = iter(
        [lambda: client.refresh(tokens.refresh), lambda: client.log_out(tokens.access)]
    )
    answers = at_once(lambda: next(calls)(), 2)
    for answer in answers:
        if answer.body and answer.status == 0:
            assert client.refresh(answer.json["refresh_token"]).error == "invalid_grant"
            assert client.revoke(answer.json["access_token"], token="x").error == "invalid_client"
    assert client.revoke(tokens.access, token="x").error == "invalid_client"
