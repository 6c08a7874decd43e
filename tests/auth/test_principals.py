import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.auth.directory import principals, users
from services.auth.providers.identity import Identity
from services.shared.database import Database
from services.shared.principal import ADMINISTRATORS_GROUP_ID, EVERYONE_GROUP_ID
from tests.auth.client import Clock, counted_statements
from tmi.auth.v1.directory_pb2 import PrincipalQuery, PrincipalRecord, PrincipalType

USER = PrincipalType.PRINCIPAL_TYPE_USER
GROUP = PrincipalType.PRINCIPAL_TYPE_GROUP


def user(provider_id: str = "", email: str = "", *, create: bool = False, provider: str = "tmi") -> PrincipalQuery:
    return PrincipalQuery(type=USER, provider=provider, provider_id=provider_id, email=email, create_missing=create)


def group(name: str, *, provider: str = "tmi", create: bool = False) -> PrincipalQuery:
    return PrincipalQuery(type=GROUP, provider=provider, provider_id=name, create_missing=create)


def resolve(database: Database, clock: Clock, *queries: PrincipalQuery) -> list[PrincipalRecord]:
    return principals.resolve(database, queries, clock())


@pytest.fixture
def alice(database: Database, clock: Clock) -> str:
    identity = Identity("tmi", "alice", "alice@tmi.local", "Alice", email_verified=False)
    return database.write(lambda connection: users.record_login(connection, identity, clock())).id


def test_a_user_is_found_by_provider_id_and_by_email(database: Database, clock: Clock, alice: str) -> None:
    queries = (user("alice"), user(email="Alice@TMI.local"), user("alice@tmi.local"), user("alice", "other@x.example"))
    for record in resolve(database, clock, *queries):
        assert (record.found, record.id, record.provider_id) == (True, alice, "alice")
        assert (record.display_name, record.email) == ("Alice", "alice@tmi.local")


def test_the_provider_counts(database: Database, clock: Clock, alice: str) -> None:
    for record in resolve(
        database, clock, user("alice", provider="google"), user(email="alice@tmi.local", provider="x")
    ):
        assert not record.found


def test_another_provider_id_is_not_found_by_a_users_email(database: Database, clock: Clock, alice: str) -> None:
    (record,) = resolve(database, clock, user("bob", "alice@tmi.local"))
    assert not record.found


def test_answers_keep_the_order_of_the_queries(database: Database, clock: Clock, alice: str) -> None:
    found = resolve(database, clock, group("administrators"), user("nobody"), user("alice"), group("everyone"))
    assert [record.id for record in found] == [ADMINISTRATORS_GROUP_ID, "", alice, EVERYONE_GROUP_ID]
    assert [record.type for record in found] == [GROUP, USER, USER, GROUP]


def test_any_provider_means_the_built_in_group_but_another_provider_does_not(database: Database, clock: Clock) -> None:
    star, other = resolve(database, clock, group("everyone", provider="*"), group("everyone", provider="google"))
    assert star.id == EVERYONE_GROUP_ID
    assert not other.found


def test_a_missing_user_is_recorded_once_and_completed_by_its_first_login(database: Database, clock: Clock) -> None:
    (recorded,) = resolve(database, clock, user("bob", create=True))
    assert recorded.found
    assert resolve(database, clock, user("bob", create=True), user("bob")) == [recorded, recorded]
    identity = Identity("tmi", "bob", "bob@tmi.local", "Bob", email_verified=False)
    assert database.write(lambda connection: users.record_login(connection, identity, clock())).id == recorded.id


def test_a_user_known_by_email_only_is_completed_by_its_first_login(database: Database, clock: Clock) -> None:
    (recorded,) = resolve(database, clock, user(email="Bob@tmi.local", create=True))
    assert (recorded.provider_id, recorded.email) == ("", "bob@tmi.local")
    (again,) = resolve(database, clock, user("bob", "bob@tmi.local", create=True))
    assert again.id == recorded.id
    identity = Identity("tmi", "bob", "bob@tmi.local", "Bob", email_verified=False)
    assert database.write(lambda connection: users.record_login(connection, identity, clock())).id == recorded.id


def test_an_address_planted_in_a_sharing_is_not_matched(database: Database, clock: Clock) -> None:
    (planted,) = resolve(database, clock, user("mallory", "victim@x.example", create=True))
    (record,) = resolve(database, clock, user(email="victim@x.example", create=True))
    assert record.found
    assert record.id != planted.id


def test_a_missing_provider_group_is_recorded_but_a_built_in_one_never(database: Database, clock: Clock) -> None:
    staff, bogus, star = resolve(
        database,
        clock,
        group("staff", provider="google", create=True),
        group("bogus", create=True),
        group("bogus", provider="*", create=True),
    )
    assert (staff.found, staff.provider, staff.provider_id) == (True, "google", "staff")
    assert not bogus.found
    assert not star.found


@pytest.mark.parametrize("query", [user(create=True), PrincipalQuery(provider="tmi", create_missing=True)])
def test_nobody_in_particular_is_not_recorded(database: Database, clock: Clock, query: PrincipalQuery) -> None:
    (record,) = resolve(database, clock, query)
    assert not record.found


@pytest.mark.parametrize(
    "query",
    [
        user("x" * 501, create=True),
        user(email="x" * 321, create=True),
        user("x", provider="p" * 101, create=True),
        group("x" * 501, provider="google", create=True),
        user("a\x00b", create=True),
        group("a\x00b", provider="google", create=True),
    ],
)
def test_a_name_that_cannot_exist_is_not_found(database: Database, clock: Clock, query: PrincipalQuery) -> None:
    (record,) = resolve(database, clock, query)
    assert not record.found


def test_a_long_name_is_recorded_with_a_shorter_display_name(database: Database, clock: Clock) -> None:
    for record in resolve(
        database, clock, user("x" * 500, create=True), group("y" * 500, provider="google", create=True)
    ):
        assert len(record.provider_id) == 500
        assert len(record.display_name) == 256


def test_three_statements_however_many_are_asked(database: Database, clock: Clock, alice: str) -> None:
    queries = [user("alice"), group("everyone")]
    queries += [user(f"user-{number}", create=True) for number in range(100)]
    queries += [user(email=f"user-{number}@x.example", create=True) for number in range(100)]
    queries += [group(f"group-{number}", provider="google", create=True) for number in range(100)]
    with counted_statements(database) as statements:
        assert all(record.found for record in resolve(database, clock, *queries))
    assert len(statements) <= 3
    with counted_statements(database) as statements:
        resolve(database, clock, *queries)
    assert len(statements) == 1


def test_no_query_costs_no_statement(database: Database, clock: Clock) -> None:
    with counted_statements(database) as statements:
        assert resolve(database, clock) == []
    assert statements == []


def test_recording_the_same_at_once_gives_one_row(database: Database, clock: Clock) -> None:
    barrier = threading.Barrier(4)
    queries = (
        user("bob", create=True),
        user(email="cid@x.example", create=True),
        group("g", provider="x", create=True),
    )

    def run() -> list[str]:
        barrier.wait(10)
        return [record.id for record in resolve(database, clock, *queries)]

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result(30) for future in [pool.submit(run) for _ in range(4)]]
    assert all(answers[0])
    assert all(answer == answers[0] for answer in answers)
