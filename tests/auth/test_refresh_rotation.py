"""A refresh token is replaced at most once a minute: repetition is told from theft (RFC 9700 section 4.14.2)."""

import itertools
import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from services.auth.directory import users
from services.auth.directory.users import User
from services.auth.sessions.login_sessions import LoginSession, LoginSessions
from services.auth.sessions.tables import login_sessions, refresh_tokens
from services.shared.database import Database
from services.shared.settings import Settings
from tests.auth.client import Answer, AuthClient, Clock, Service
from tests.auth.conftest import Start
from tests.auth.storage import ALICE, at_once, count
from tmi.auth.v1.directory_pb2 import ListRevocationsRequest, Revocation, RevocationKind

START = datetime(2030, 1, 1, tzinfo=UTC)

Outcome = tuple[LoginSession, User, str] | Revocation | None


class Family:
    """The refresh tokens of one new session, at times counted in seconds from its login."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions = LoginSessions(Settings())

        def work(connection: Connection) -> tuple[LoginSession, User, str]:
            user = users.record_login(connection, ALICE, START)
            session = self._sessions.start(connection, user, [], START)
            return session, user, self._sessions.issue_refresh_token(connection, session, START)

        self.session, self.user, self.first = database.write(work)

    def present(self, token: str, at: float) -> Outcome:
        now = START + timedelta(seconds=at)
        return self._database.write(lambda connection: self._sessions.redeem(connection, token, now))

    def answer(self, token: str, at: float) -> str:
        """The token that is answered. Fails when the holder is logged out."""
        outcome = self.present(token, at)
        assert isinstance(outcome, tuple), outcome
        session, user, current = outcome
        assert (session, user) == (self.session, self.user)
        return current


@pytest.fixture
def family(database: Database) -> Family:
    return Family(database)


def test_the_first_use_replaces_a_token_and_later_ones_once_a_minute(family: Family) -> None:
    second = family.answer(family.first, at=1)
    assert second != family.first
    assert [family.answer(second, at) for at in (1, 30, 60.9)] == [second] * 3
    third = family.answer(second, at=61)
    assert third not in (family.first, second)
    assert family.answer(third, at=120.9) == third


@pytest.mark.parametrize("seconds", [0, 2, 35, 59.9])
def test_the_token_before_the_current_one_is_taken_for_it_for_a_minute(family: Family, seconds: float) -> None:
    second = family.answer(family.first, at=1)
    assert family.answer(family.first, at=1 + seconds) == second
    assert family.answer(second, at=1 + seconds) == second


@pytest.mark.parametrize("seconds", [60, 3600, 86_400])
def test_a_token_that_was_replaced_longer_ago_ends_the_session(family: Family, seconds: float) -> None:
    second = family.answer(family.first, at=1)
    ended = family.present(family.first, at=1 + seconds)
    assert isinstance(ended, Revocation)
    assert (ended.kind, ended.id) == (RevocationKind.REVOCATION_KIND_SESSION, family.session.id)
    assert family.present(second, at=1 + seconds) is None
    assert family.present(family.first, at=1 + seconds) is None


def test_a_token_two_behind_ends_the_session_at_once(family: Family) -> None:
    third = family.answer(family.answer(family.first, at=1), at=61)
    assert isinstance(family.present(family.first, at=61), Revocation)
    assert family.present(third, at=61) is None


def test_presenting_the_current_token_again_stores_nothing(family: Family, database: Database) -> None:
    second = family.answer(family.first, at=1)
    stored = count(database, refresh_tokens)
    for token in (second, family.first):
        family.answer(token, at=2)
    assert count(database, refresh_tokens) == stored


_BURST_SECONDS = 59.0
_SENT, _ARRIVED, _ANSWERED = range(3)


@st.composite
def bursts(draw: st.DrawFn) -> list[tuple[float, int, int]]:
    """What two tabs do within a minute: (second, what happens, to which refresh), in order.

    They overlap and overtake each other, and answers are lost. The last one of all gets its answer.
    """
    moments = st.floats(0, _BURST_SECONDS - 1, allow_nan=False)
    events = [(_BURST_SECONDS, happens, 0) for happens in (_SENT, _ARRIVED, _ANSWERED)]
    for number in range(1, 1 + draw(st.integers(0, 5))):
        sent, arrived, answered = sorted(draw(st.tuples(moments, moments, moments)))
        events += [(sent, _SENT, number), (arrived, _ARRIVED, number)]
        if draw(st.booleans()):
            events.append((answered, _ANSWERED, number))
    return sorted(events)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.floats(0, 20_000, allow_nan=False), bursts()), min_size=1, max_size=5))
def test_two_tabs_that_keep_the_last_answer_are_never_logged_out(
    database: Database, schedule: list[tuple[float, list[tuple[float, int, int]]]]
) -> None:
    family = Family(database)
    jar = family.first
    now = 0.0
    for pause, burst in schedule:
        now += pause
        carried: dict[int, str] = {}
        for second, happens, number in burst:
            if happens == _SENT:
                carried[number] = jar
            elif happens == _ARRIVED:
                carried[number] = family.answer(carried[number], now + second)
            else:
                jar = carried[number]
        now += _BURST_SECONDS


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    pauses=st.lists(st.floats(60, 20_000, allow_nan=False), min_size=1, max_size=5),
    late=st.floats(60, 20_000, allow_nan=False),
)
def test_a_copy_is_noticed_at_the_first_refresh_after_the_minute_whoever_was_faster(
    database: Database, pauses: list[float], late: float
) -> None:
    family = Family(database)
    copy = family.answer(family.first, at=0)
    current = copy
    now = 0.0
    for pause in pauses:  # the one who is faster, owner or thief, keeps what is answered
        now += pause
        current = family.answer(current, now)
    assert isinstance(family.present(copy, now + late), Revocation)
    assert family.present(current, now + late) is None


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["owner", "thief"]), st.floats(0, 200, allow_nan=False)), max_size=12))
def test_once_a_family_has_ended_nobody_gets_anything_of_it(database: Database, uses: list[tuple[str, float]]) -> None:
    family = Family(database)
    held = {"owner": family.first, "thief": family.first}
    now = 0.0
    ended = False
    for who, pause in uses:
        now += pause
        outcome = family.present(held[who], now)
        if ended:
            assert outcome is None
        elif isinstance(outcome, tuple):
            held[who] = outcome[2]
        else:
            assert isinstance(outcome, Revocation)
            ended = True


# --- as the clients see it


def assert_same_session(client: AuthClient, answers: list[Answer]) -> None:
    """Every answer has a working access token of one session, and the cookies that go with it."""
    assert [answer.status for answer in answers] == [0] * len(answers), [answer.body for answer in answers]
    assert len({client.claims(answer.json["access_token"])["sid"] for answer in answers}) == 1
    for answer in answers:
        assert client.profile(answer.json["access_token"]).status == 0
        access, refresh = answer.cookies
        assert access.startswith(f"tmi_access_token={answer.json['access_token']};")
        assert refresh.startswith(f"tmi_refresh_token={answer.json['refresh_token']};")


def refresh_tokens_of(answers: list[Answer]) -> set[str]:
    return {answer.json["refresh_token"] for answer in answers}


def test_refreshes_at_once_through_two_replicas_get_the_same_token(start: Start) -> None:
    first, second = start().client, start().client
    replicas = itertools.cycle([first, second])
    tokens = first.log_in()
    for _ in range(3):
        answers = at_once(lambda: next(replicas).refresh(tokens.refresh), 8)
        assert_same_session(first, answers)
        assert len(refresh_tokens_of(answers)) == 1
        (current,) = refresh_tokens_of(answers)
        assert second.refresh(cookie=current).json["refresh_token"] == current


def test_a_lost_answer_is_given_again_by_another_replica(start: Start, clock: Clock) -> None:
    first, second = start().client, start().client
    tokens = first.log_in()
    lost = first.refresh(tokens.refresh)
    for seconds in (2, 33):
        clock.advance(seconds=seconds)
        repeated = second.refresh(tokens.refresh)
        assert_same_session(second, [lost, repeated])
        assert refresh_tokens_of([lost, repeated]) == {lost.json["refresh_token"]}


def test_a_client_that_refreshes_for_every_message_stays_logged_in(client: AuthClient, clock: Clock) -> None:
    token = client.log_in().refresh
    seen = set()
    for _ in range(40):
        clock.advance(seconds=5)
        token = client.refresh(token).json["refresh_token"]
        seen.add(token)
    assert len(seen) == 4  # in 200 seconds


def test_a_replaced_token_ends_everything_of_its_session(
    service: Service, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    client = service.client
    tokens = client.log_in()
    successor = client.refresh(tokens.refresh).json
    clock.advance(seconds=61)
    with service.revocations() as following, caplog.at_level(logging.INFO):
        answer = client.refresh(tokens.refresh)
        revocation = following()
    assert (answer.status, answer.error) == (400, "invalid_grant")
    assert all("Max-Age=0" in cookie for cookie in answer.cookies)
    assert client.refresh(successor["refresh_token"]).error == "invalid_grant"
    for access_token in (tokens.access, successor["access_token"]):
        assert client.revoke(access_token, token="x").error == "invalid_client"
    session_id = client.claims(tokens.access)["sid"]
    assert (revocation.kind, revocation.id) == (RevocationKind.REVOCATION_KIND_SESSION, session_id)
    assert revocation in client.directory.ListRevocations(ListRevocationsRequest()).revocations
    (record,) = (record for record in caplog.records if "refresh token" in record.message)
    assert record.__dict__["session_id"] == session_id
    logged = str([record.__dict__ for record in caplog.records])
    for secret in (tokens.refresh, tokens.access, successor["refresh_token"], successor["access_token"]):
        assert secret not in logged


def test_a_logout_ends_the_token_and_the_one_before_it(client: AuthClient) -> None:
    tokens = client.log_in()
    current = client.refresh(tokens.refresh).json
    client.log_out(current["access_token"])
    for token in (tokens.refresh, current["refresh_token"]):
        assert client.refresh(token).error == "invalid_grant"


def test_the_table_holds_nothing_that_a_token_could_be_made_of(service: Service) -> None:
    tokens = service.client.log_in()
    current = service.client.refresh(tokens.refresh).json["refresh_token"]
    rows = service.database.read(
        lambda connection: [*connection.execute(refresh_tokens.select()), *connection.execute(login_sessions.select())]
    )
    stored = b"".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
    for token in (tokens.refresh, current):
        assert token.encode() not in stored
