"""People who are named in an access list before they log in: who gets the row, and that nobody is kept out by it."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from sqlalchemy import event

from services.auth.directory import principals
from services.auth.providers.identity import Identity
from services.shared.database import Database
from services.shared.errors import ApiError
from tests.auth.client import Clock
from tests.auth.storage import log_in
from tmi.auth.v1.directory_pb2 import PrincipalQuery, PrincipalRecord, PrincipalType

ADDRESS = "bob@x.example"
IN_BOTH_MEMBERS = pytest.mark.parametrize("member", ["provider_id", "email"])


def name(
    database: Database,
    clock: Clock,
    provider: str = "google",
    *,
    provider_id: str = "",
    email: str = "",
    create: bool = True,
) -> PrincipalRecord:
    """The record of somebody who is named in an access list."""
    user = PrincipalType.PRINCIPAL_TYPE_USER
    query = PrincipalQuery(type=user, provider=provider, provider_id=provider_id, email=email, create_missing=create)
    (record,) = principals.resolve(database, [query], clock())
    return record


def by_address(
    database: Database, clock: Clock, member: str, address: str, provider: str = "google"
) -> PrincipalRecord:
    """The record of somebody whose address is in this member; `create_missing` is on."""
    in_id, in_email = (address, "") if member == "provider_id" else ("", address)
    return name(database, clock, provider, provider_id=in_id, email=in_email)


def bob(provider: str = "google", provider_id: str = "42", email: str = ADDRESS, *, verified: bool = True) -> Identity:
    return Identity(provider, provider_id, email, "Bob", email_verified=verified)


@IN_BOTH_MEMBERS
@pytest.mark.parametrize("spelling", [ADDRESS, "Bob@X.Example"])
def test_invited_by_address_means_access_after_the_first_login(
    database: Database, clock: Clock, member: str, spelling: str
) -> None:
    for number, identity in enumerate(
        [bob(), bob("github", "bob-hub"), bob(provider_id="Bob@x.example", email="robert@x.example", verified=False)]
    ):
        prefix = f"{number}."
        identity = replace(identity, provider_id=prefix + identity.provider_id, email=prefix + identity.email)
        invited = by_address(database, clock, member, prefix + spelling)
        user = log_in(database, identity, clock)
        assert (user.id, user.provider, user.provider_id) == (invited.id, identity.provider, identity.provider_id)
        assert log_in(database, identity, clock).id == invited.id


@IN_BOTH_MEMBERS
def test_invited_by_address_after_the_login_is_the_user(database: Database, clock: Clock, member: str) -> None:
    user = log_in(database, bob(), clock)
    assert by_address(database, clock, member, ADDRESS.upper()).id == user.id
    assert by_address(database, clock, member, ADDRESS, "github").id != user.id


def test_whichever_member_carries_the_address_it_is_one_row(database: Database, clock: Clock) -> None:
    members = [(ADDRESS, ""), ("", ADDRESS), (ADDRESS.upper(), "eve@x.example"), ("", " Bob@X.example ")]
    for number, ((first_id, first_email), (second_id, second_email)) in enumerate(itertools.permutations(members, 2)):
        provider = f"provider-{number}"
        record = name(database, clock, provider, provider_id=first_id, email=first_email)
        again = name(database, clock, provider, provider_id=second_id, email=second_email)
        assert again == record
        assert (record.provider_id, record.email) == ("", ADDRESS)


@IN_BOTH_MEMBERS
@pytest.mark.parametrize("provider", ["google", "github"])
def test_an_unverified_address_gets_no_invitation_but_is_let_in(
    database: Database, clock: Clock, member: str, provider: str
) -> None:
    invited = by_address(database, clock, member, ADDRESS)
    stranger = log_in(database, bob(provider, "666", verified=False), clock)
    assert stranger.id != invited.id
    assert by_address(database, clock, member, ADDRESS).id == invited.id
    assert log_in(database, bob(), clock).id == invited.id


def test_an_unverified_address_of_somebody_who_logged_in_attracts_no_invitation(
    database: Database, clock: Clock
) -> None:
    stranger = log_in(database, bob(provider_id="666", verified=False), clock)
    invited = name(database, clock, email=ADDRESS)
    assert invited.id != stranger.id
    assert log_in(database, bob(), clock).id == invited.id


def test_an_unverified_address_of_somebody_keeps_nobody_out(database: Database, clock: Clock) -> None:
    squatters = [log_in(database, bob(provider, "666", verified=False), clock) for provider in ("google", "github")]
    owner = log_in(database, bob(), clock)
    assert owner.id not in [squatter.id for squatter in squatters]


@pytest.mark.parametrize(
    "identity", [bob(), bob(verified=False), Identity("tmi", "42", ADDRESS, "Bob", email_verified=False)]
)
def test_being_named_keeps_nobody_out(database: Database, clock: Clock, identity: Identity) -> None:
    members = [("42", ""), (ADDRESS, ""), ("", ADDRESS), ("42", ADDRESS)]
    for number, ((in_id, in_email), provider) in enumerate(
        itertools.product(members, ["google", "github", "tmi", "x"])
    ):
        prefix = f"{number}."
        somebody = replace(identity, provider_id=prefix + identity.provider_id, email=prefix + identity.email)
        name(
            database,
            clock,
            provider,
            provider_id=prefix + in_id if in_id else "",
            email=prefix + in_email if in_email else "",
        )
        assert log_in(database, somebody, clock).provider_id == somebody.provider_id


@pytest.mark.parametrize("verified", [True, False])
def test_an_id_is_an_id(database: Database, clock: Clock, verified: bool) -> None:
    invited = name(database, clock, provider_id="42", email="eve@x.example")
    assert (invited.provider_id, invited.email) == ("42", "")
    eve = log_in(database, bob(provider_id="7", email="eve@x.example"), clock)
    assert eve.id != invited.id
    assert log_in(database, bob(verified=verified), clock).id == invited.id


@pytest.mark.parametrize("text", ["bob@", "@x.example", "a@b@c", "bob @x.example", "b" * 320 + "@x.example"])
def test_what_is_no_address_is_an_id(database: Database, clock: Clock, text: str) -> None:
    assert name(database, clock, provider_id=text).provider_id == text


def test_an_id_that_is_an_address_names_its_user_before_anybody_with_that_address(
    database: Database, clock: Clock
) -> None:
    by_id = log_in(database, bob(provider_id=ADDRESS, email="robert@x.example"), clock)
    by_address = log_in(database, bob(provider_id="42"), clock)
    assert name(database, clock, provider_id=ADDRESS).id == by_id.id
    assert name(database, clock, email=ADDRESS).id == by_address.id


def test_an_invitation_of_the_same_provider_comes_before_one_of_another(database: Database, clock: Clock) -> None:
    elsewhere = name(database, clock, "github", email=ADDRESS)
    invited = name(database, clock, "google", email=ADDRESS)
    assert log_in(database, bob(), clock).id == invited.id
    assert name(database, clock, "github", create=False, email=ADDRESS).id == elsewhere.id


def test_an_invitation_elsewhere_does_not_open_a_second_account(database: Database, clock: Clock) -> None:
    log_in(database, bob("github"), clock)
    name(database, clock, "x", email=ADDRESS)
    with pytest.raises(ApiError) as caught:
        log_in(database, bob("google"), clock)
    assert (caught.value.status, caught.value.code) == (409, "account_conflict")


def test_nobody_is_recorded_at_every_provider(database: Database, clock: Clock) -> None:
    assert not name(database, clock, "*", email=ADDRESS).found


def test_a_login_without_an_address_takes_no_row_that_has_none(database: Database, clock: Clock) -> None:
    invited = name(database, clock, provider_id="41")
    assert log_in(database, bob(email="", verified=False), clock).id != invited.id


def test_naming_the_same_new_people_in_different_orders_never_deadlocks(postgresql: Database, clock: Clock) -> None:
    def queries(round_: int) -> list[PrincipalQuery]:
        user, group = PrincipalType.PRINCIPAL_TYPE_USER, PrincipalType.PRINCIPAL_TYPE_GROUP
        asked = [
            *(PrincipalQuery(type=user, provider_id=f"{round_}-{n}") for n in range(120)),
            *(PrincipalQuery(type=user, email=f"{round_}-{n}@x.example") for n in range(120)),
            *(PrincipalQuery(type=user, provider_id=f"{round_}-{n}@X.example") for n in range(60, 180)),
            *(PrincipalQuery(type=group, provider_id=f"{round_}-{n}") for n in range(120)),
        ]
        for query in asked:
            query.provider, query.create_missing = "google", True
        return asked

    errors: list[str] = []
    event.listen(postgresql.engine, "handle_error", lambda context: errors.append(str(context.original_exception)))
    for round_ in range(4):
        barrier = Barrier(4)

        def resolve(turn: int, round_: int = round_, barrier: Barrier = barrier) -> dict[str, str]:
            asked = queries(round_)
            rotated = asked[turn * 107 :] + asked[: turn * 217]
            rotated = rotated[::-1] if turn % 2 else rotated
            barrier.wait(10)
            records = principals.resolve(postgresql, rotated, clock())
            return {str(query): record.id for query, record in zip(rotated, records, strict=True)}

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(resolve, range(4)))
        assert all(answers[0].values())
        assert all(answer == answers[0] for answer in answers)
    assert errors == []
