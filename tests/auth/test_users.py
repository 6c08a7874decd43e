import pytest

from services.auth.directory.tables import users as users_table
from services.auth.providers.identity import Identity
from services.shared.database import Database
from services.shared.errors import ApiError
from tests.auth.client import Clock
from tests.auth.storage import ALICE, GOOGLE_ALICE, add_user, at_once, count, log_in


def test_a_new_identity_is_a_new_user_and_later_the_same(database: Database, clock: Clock) -> None:
    first = log_in(database, ALICE, clock)
    renamed = Identity("tmi", "alice", "alice@new.example", "Alice II", email_verified=True)
    second = log_in(database, renamed, clock)
    assert second.id == first.id
    assert (second.email, second.display_name, second.email_verified) == ("alice@new.example", "Alice II", True)


def test_a_verified_address_stays_verified_but_another_one_is_not(database: Database, clock: Clock) -> None:
    log_in(database, GOOGLE_ALICE, clock)
    again = Identity("google", "42", "alice@tmi.local", "Alice G", email_verified=False)
    assert log_in(database, again, clock).email_verified is True
    moved = Identity("google", "42", "alice@new.example", "Alice G", email_verified=False)
    assert log_in(database, moved, clock).email_verified is False


def test_sharing_by_provider_id_is_completed_at_login(database: Database, clock: Clock) -> None:
    identifier = add_user(database, clock, provider_id="alice", email="")
    user = log_in(database, ALICE, clock)
    assert user.id == identifier
    assert (user.email, user.display_name) == ("alice@tmi.local", "Alice")


def test_sharing_by_email_is_completed_when_the_same_provider_vouches(database: Database, clock: Clock) -> None:
    identifier = add_user(database, clock)
    user = log_in(database, ALICE, clock)
    assert (user.id, user.provider_id) == (identifier, "alice")


def test_the_same_provider_and_verified_email_is_the_same_user_with_its_id_kept(
    database: Database, clock: Clock
) -> None:
    first = log_in(database, GOOGLE_ALICE, clock)
    second = log_in(database, Identity("google", "43", "alice@tmi.local", "Alice 3", email_verified=True), clock)
    assert (second.id, second.provider_id, second.display_name) == (first.id, "42", "Alice 3")


def test_the_same_provider_with_an_unverified_email_is_account_conflict(database: Database, clock: Clock) -> None:
    log_in(database, GOOGLE_ALICE, clock)
    assert_refused(
        database, clock, Identity("google", "43", "alice@tmi.local", "x", email_verified=False), 409, "account_conflict"
    )


def test_an_email_of_another_providers_user_is_account_conflict(database: Database, clock: Clock) -> None:
    log_in(database, GOOGLE_ALICE, clock)
    assert_refused(database, clock, ALICE, 409, "account_conflict")


def test_a_verified_email_claims_sharing_wherever_it_was_addressed(database: Database, clock: Clock) -> None:
    identifier = add_user(database, clock, provider="github")
    user = log_in(database, GOOGLE_ALICE, clock)
    assert (user.id, user.provider, user.provider_id) == (identifier, "google", "42")


def test_an_address_that_somebody_wrote_into_a_sharing_captures_nobody(database: Database, clock: Clock) -> None:
    planted = add_user(database, clock, provider_id="mallory", email="alice@tmi.local")
    assert log_in(database, ALICE, clock).id != planted


def assert_refused(database: Database, clock: Clock, identity: Identity, status: int, code: str) -> None:
    before = count(database, users_table)
    with pytest.raises(ApiError) as caught:
        log_in(database, identity, clock)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert count(database, users_table) == before


def test_two_first_logins_of_one_identity_make_one_user(database: Database, clock: Clock) -> None:
    found = at_once(lambda: log_in(database, ALICE, clock), 4)
    assert len({user.id for user in found}) == 1
    assert count(database, users_table) == 1
