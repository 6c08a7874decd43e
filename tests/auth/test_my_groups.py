from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import update

from services.auth.directory.groups import add_member
from services.auth.directory.tables import groups as groups_table
from services.auth.directory.tables import users
from services.auth.providers.configuration import ProviderConfiguration
from services.auth.sessions.tables import login_sessions
from services.shared import sql_dialect
from services.shared.principal import (
    ADMINISTRATORS_GROUP_ID,
    EVERYONE_GROUP_ID,
    SECURITY_REVIEWERS_GROUP_ID,
)
from tests.auth.client import Answer, AuthClient, Service
from tests.auth.conftest import Start
from tests.auth.storage import add_user
from tmi.auth.v1 import me_pb2

STAFF = "22222222-2222-4222-8222-222222222222"


def record_group(service: Service, provider: str, name: str, group_id: str = STAFF) -> None:
    row = {"id": group_id, "provider": provider, "group_name": name, "display_name": name.title()}
    service.database.write(
        lambda connection: connection.execute(sql_dialect.insert(connection, groups_table).values(row))
    )


def mine(client: AuthClient, access: str) -> Answer:
    return client.call(client.groups.ListMyGroups, me_pb2.ListMyGroupsRequest(), access)


def members(client: AuthClient, access: str, group_id: str, limit: int = 50, offset: int = 0) -> Answer:
    """Called as the gateway does, which resolves the groups of the session."""
    request = me_pb2.ListMyGroupMembersRequest(group_id=group_id, limit=limit, offset=offset)
    return client.call(client.groups.ListMyGroupMembers, request, access, with_groups=True)


def of_provider(client: AuthClient, access: str, idp: str) -> Answer:
    return client.call(client.groups.GetProviderGroups, me_pb2.GetProviderGroupsRequest(idp=idp), access)


def test_my_groups_are_those_i_was_added_to(service: Service) -> None:
    client = service.client
    first, second = client.log_in(), client.log_in()
    assert mine(client, first.access).json == {
        "groups": [
            {"internal_uuid": ADMINISTRATORS_GROUP_ID, "group_name": "administrators", "name": "Administrators"},
            {
                "internal_uuid": SECURITY_REVIEWERS_GROUP_ID,
                "group_name": "security-reviewers",
                "name": "Security Reviewers",
            },
        ],
        "total": 2,
    }
    assert mine(client, second.access).json == {"groups": [], "total": 0}


def test_more_groups_than_the_contract_can_list_are_counted(service: Service) -> None:
    client = service.client
    client.log_in()
    access = client.log_in().access
    user_id = client.claims(access)["tmi_user_id"]
    ids = [str(UUID(int=(4 << 76) | (2 << 62) | 1000 + number)) for number in range(101)]
    for number, group_id in enumerate(ids):
        record_group(service, "tmi", f"group-{number:03}", group_id)
    service.database.write(lambda connection: add_member(connection, ids, user_id, service.clock()))
    answer = mine(client, access).json
    assert (len(answer["groups"]), answer["total"]) == (100, 101)


def test_the_members_of_my_group(service: Service) -> None:
    client = service.client
    access = client.log_in("alice").access
    alice = client.claims(access)["tmi_user_id"]
    sparse = add_user(service.database, service.clock, provider="google", provider_id="7", email="")
    service.clock.advance(seconds=5)
    service.database.write(lambda c: add_member(c, [ADMINISTRATORS_GROUP_ID], sparse, service.clock()))
    answer = members(client, access, ADMINISTRATORS_GROUP_ID).json
    assert {name: answer[name] for name in ("total", "limit", "offset")} == {"total": 2, "limit": 50, "offset": 0}
    first, second = answer["members"]
    assert UUID(first.pop("id")) != UUID(second.pop("id"))
    assert first.pop("added_at") < second.pop("added_at")
    assert first == {
        "group_internal_uuid": ADMINISTRATORS_GROUP_ID,
        "user_internal_uuid": alice,
        "user_email": "alice@tmi.local",
        "user_name": "Alice (TMI User)",
        "user_provider": "tmi",
        "user_provider_user_id": "alice",
        "subject_type": "user",
    }
    assert (second["user_email"], second["user_provider_user_id"]) == (None, "7")


def test_members_come_in_pages_with_the_same_ids(service: Service) -> None:
    client = service.client
    access = client.log_in("alice").access
    for number in range(3):
        user = add_user(
            service.database,
            service.clock,
            id=str(UUID(int=(4 << 76) | (2 << 62) | number)),
            provider_id=f"p{number}",
        )
        service.database.write(
            lambda c, user=user: add_member(c, [ADMINISTRATORS_GROUP_ID], user, service.clock())  # type: ignore[misc]
        )
    whole = members(client, access, ADMINISTRATORS_GROUP_ID).json["members"]
    pages = [members(client, access, ADMINISTRATORS_GROUP_ID, 2, offset).json["members"] for offset in (0, 2)]
    assert [len(page) for page in pages] == [2, 2]
    assert [member["id"] for page in pages for member in page] == [member["id"] for member in whole]
    none = members(client, access, ADMINISTRATORS_GROUP_ID, 0).json
    assert (none["members"], none["total"]) == ([], 4)


def test_only_members_see_who_is_in_a_group(client: AuthClient) -> None:
    client.log_in()
    access = client.log_in().access
    refused = members(client, access, ADMINISTRATORS_GROUP_ID)
    assert (refused.status, refused.error) == (403, "forbidden")
    unknown = members(client, access, STAFF)
    assert (unknown.status, unknown.error) == (404, "not_found")


def test_everybody_is_in_everyone_whose_members_are_not_listed(client: AuthClient) -> None:
    answer = members(client, client.log_in().access, EVERYONE_GROUP_ID).json
    assert (answer["members"], answer["total"]) == ([], 0)


def test_a_group_of_the_identity_provider_makes_a_member(service: Service) -> None:
    client = service.client
    access = client.log_in("alice").access
    record_group(service, "google", "staff")
    service.database.write(lambda c: c.execute(update(login_sessions).values(provider_groups=["staff"])))
    assert members(client, access, STAFF).status == 403  # a group of that name, but of another provider
    service.database.write(lambda c: c.execute(update(users).values(provider="google")))
    assert members(client, access, STAFF).json["total"] == 0


def test_the_groups_of_a_provider_are_those_named_here_and_those_of_my_login(service: Service) -> None:
    client = service.client
    access = client.log_in("alice").access
    record_group(service, "google", "staff")
    assert of_provider(client, access, "google").json == {
        "idp": "google",
        "groups": [{"name": "staff", "display_name": "Staff"}],
    }
    service.database.write(lambda c: c.execute(update(login_sessions).values(provider_groups=["zebra", "everyone"])))
    listed = of_provider(client, access, "tmi").json["groups"]
    assert [group["name"] for group in listed] == sorted(group["name"] for group in listed)
    by_name = {group["name"]: group["display_name"] for group in listed}
    assert (by_name["zebra"], by_name["everyone"], by_name["administrators"]) == ("zebra", "Everyone", "Administrators")
    other = of_provider(client, client.log_in("bob").access, "tmi").json["groups"]
    assert "zebra" not in {group["name"] for group in other}


def test_a_provider_without_groups_and_one_that_nobody_knows(service: Service) -> None:
    client = service.client
    access = client.log_in().access
    add_user(service.database, service.clock, provider="github", provider_id="9")
    assert of_provider(client, access, "github").json == {"idp": "github", "groups": []}
    unknown = of_provider(client, access, "nowhere")
    assert (unknown.status, unknown.error) == (404, "not_found")


def test_a_configured_provider_that_nobody_has_used_yet_has_no_groups(start: Start) -> None:
    corp = ProviderConfiguration(
        id="corp", client_id="tmi", client_secret=SecretStr("secret"), issuer="https://login.example"
    )
    client = start(corp).client
    assert of_provider(client, client.log_in().access, "corp").json == {"idp": "corp", "groups": []}
