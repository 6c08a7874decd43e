import pytest
from sqlalchemy import Connection, select

from services.auth.directory import groups
from services.auth.directory.administrators import FirstAdministrator
from services.auth.directory.tables import group_members
from services.auth.directory.tables import groups as groups_table
from services.auth.providers.identity import Identity
from services.shared import sql_dialect
from services.shared.database import Database
from services.shared.principal import ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID
from services.shared.settings import Settings
from tests.auth.client import Clock
from tests.auth.storage import ALICE, GOOGLE_ALICE, at_once, count, log_in


def test_a_providers_group_is_effective_by_provider_and_name(database: Database, clock: Clock) -> None:
    user = log_in(database, GOOGLE_ALICE, clock)

    def work(connection: Connection) -> list[groups.Group]:
        connection.execute(
            sql_dialect.insert(connection, groups_table).values(
                [
                    {"id": f"22222222-2222-4222-8222-22222222222{n}", "provider": p, "group_name": g, "display_name": g}
                    for n, (p, g) in enumerate([("google", "staff"), ("github", "staff"), ("google", "other")])
                ]
            )
        )
        groups.add_member(connection, [SECURITY_REVIEWERS_GROUP_ID], user.id, clock())
        return groups.effective_groups(connection, user.id, "google", ["staff", "administrators", "unknown"])

    found = database.write(work)
    assert [(group.provider, group.name) for group in found] == [("tmi", "security-reviewers"), ("google", "staff")]


def test_a_reported_group_never_confers_a_built_in_one(database: Database, clock: Clock) -> None:
    user = log_in(database, ALICE, clock)
    assert (
        database.read(lambda connection: groups.effective_groups(connection, user.id, "tmi", ["administrators"])) == []
    )


def administrators(database: Database) -> list[str]:
    query = select(group_members.c.user_id).where(group_members.c.group_id == ADMINISTRATORS_GROUP_ID)
    return database.read(lambda connection: list(connection.scalars(query)))


def test_only_the_first_user_is_promoted(database: Database, clock: Clock) -> None:
    ids = [
        log_in(database, Identity("tmi", name, f"{name}@tmi.local", name, email_verified=False), clock).id
        for name in ("ann", "bob", "cid", "dee")
    ]
    waiting = iter(ids)
    promoted = at_once(
        lambda: database.write(lambda connection: groups.promote_first_user(connection, next(waiting), clock())), 4
    )
    assert sorted(promoted) == [False, False, False, True]
    assert len(administrators(database)) == 1
    assert count(database, group_members) == 2


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ({"admin_provider": "tmi", "admin_provider_id": "alice"}, True),
        ({"admin_provider": "tmi", "admin_email": "Alice@tmi.local"}, True),
        ({"admin_provider": "tmi", "admin_provider_id": "bob"}, False),
        ({"admin_provider": "google", "admin_email": "alice@tmi.local"}, False),
        ({"admin_email": "alice@tmi.local"}, False),
        ({}, False),
    ],
)
def test_in_production_only_the_configured_user_is_promoted(
    database: Database, clock: Clock, configured: dict[str, str], expected: bool
) -> None:
    first = FirstAdministrator(Settings(build_mode="production", **configured))  # type: ignore[arg-type]
    user = log_in(database, ALICE, clock)
    database.write(lambda connection: first.at_login(connection, user, ALICE, clock()))
    assert administrators(database) == ([user.id] if expected else [])


def test_an_unverified_address_does_not_make_an_administrator(database: Database, clock: Clock) -> None:
    first = FirstAdministrator(Settings(build_mode="dev", admin_provider="google", admin_email="alice@tmi.local"))
    unverified = Identity("google", "42", "alice@tmi.local", "Alice", email_verified=False)
    user = log_in(database, unverified, clock)

    def work(connection: Connection) -> None:
        first.at_login(connection, user, unverified, clock())
        first.at_start(connection, clock())

    database.write(work)
    assert administrators(database) == []


def test_the_configured_administrator_is_created_at_start_and_completed_at_login(
    database: Database, clock: Clock
) -> None:
    first = FirstAdministrator(
        Settings(build_mode="production", admin_provider="tmi", admin_provider_id="alice", admin_email="Root@x.example")
    )
    for _ in range(2):
        database.write(lambda connection: first.at_start(connection, clock()))
    (admin,) = administrators(database)
    assert log_in(database, ALICE, clock).id == admin


def test_at_start_a_known_administrator_is_found_by_a_verified_address(database: Database, clock: Clock) -> None:
    user = log_in(database, GOOGLE_ALICE, clock)
    first = FirstAdministrator(Settings(admin_provider="google", admin_email="alice@tmi.local"))
    database.write(lambda connection: first.at_start(connection, clock()))
    assert administrators(database) == [user.id]


def test_at_start_nothing_happens_without_configuration(database: Database, clock: Clock) -> None:
    database.write(lambda connection: FirstAdministrator(Settings()).at_start(connection, clock()))
    assert administrators(database) == []
