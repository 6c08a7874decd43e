import logging
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select, update

from services.auth import housekeeping
from services.auth.directory.tables import users as users_table
from services.auth.directory.users import User
from services.auth.providers.identity import Identity
from services.auth.sessions import revocations
from services.auth.sessions.login_sessions import LoginSession, LoginSessions
from services.auth.sessions.tables import login_sessions, refresh_tokens
from services.auth.sessions.tables import revocations as revocations_table
from services.auth.tokens.tables import signing_keys
from services.shared import sql_dialect
from services.shared.database import Database
from services.shared.settings import Settings
from tests.auth.client import Clock
from tests.auth.storage import ALICE, count, log_in
from tmi.auth.v1.directory_pb2 import RevocationKind


def open_session(
    database: Database, clock: Clock, sessions: LoginSessions, identity: Identity = ALICE
) -> tuple[User, LoginSession, str]:
    user = log_in(database, identity, clock)

    def work(connection: Connection) -> tuple[User, LoginSession, str]:
        session = sessions.start(connection, user, ["staff"], clock())
        return user, session, sessions.issue_refresh_token(connection, session, clock())

    return database.write(work)


def test_a_refresh_token_is_stored_as_a_hash_only(database: Database, clock: Clock) -> None:
    _, _, token = open_session(database, clock, LoginSessions(Settings()))
    (row,) = database.read(lambda connection: connection.execute(select(refresh_tokens)).all())
    assert len(row.token_hash) == 32
    assert token.encode() not in bytes(row.token_hash)


@pytest.mark.parametrize(
    ("settings", "days"),
    [(Settings(refresh_token_days=1), 1), (Settings(session_lifetime_days=1), 1)],
    ids=["token expired", "session ended"],
)
def test_an_expired_refresh_token_is_worth_nothing(
    database: Database, clock: Clock, settings: Settings, days: int
) -> None:
    sessions = LoginSessions(settings)
    _, _, token = open_session(database, clock, sessions)
    clock.advance(days=days)
    assert database.write(lambda connection: sessions.redeem(connection, token, clock())) is None
    assert count(database, revocations_table) == 0


def test_ending_a_session_needs_its_user(database: Database, clock: Clock) -> None:
    sessions = LoginSessions(Settings())
    user, session, token = open_session(database, clock, sessions)
    other = log_in(database, Identity("tmi", "bob", "bob@tmi.local", "Bob", email_verified=False), clock)
    assert database.write(lambda c: sessions.end(c, session.id, other.id, clock())) is None
    assert database.write(lambda c: sessions.end_of_refresh_token(c, token, other.id, clock())) is None
    assert database.write(lambda c: sessions.end_of_refresh_token(c, token, user.id, clock())) is not None
    assert database.write(lambda c: sessions.redeem(c, token, clock())) is None


def test_a_revocation_is_in_force_until_nothing_can_be_valid(database: Database, clock: Clock) -> None:
    sessions = LoginSessions(Settings(jwt_expiration_seconds=600))
    user, session, _ = open_session(database, clock, sessions)
    ended = database.write(lambda connection: sessions.end(connection, session.id, user.id, clock()))
    assert ended is not None
    assert database.read(lambda connection: revocations.in_force(connection, clock())) == [ended]
    claims = {"jti": "x", "sid": session.id, "tmi_user_id": user.id, "iat": int(clock().timestamp())}
    assert database.read(lambda connection: revocations.is_revoked(connection, claims))
    clock.advance(seconds=631)
    assert database.read(lambda connection: revocations.in_force(connection, clock())) == []


def test_a_users_revocation_spares_what_was_issued_after_it(database: Database, clock: Clock) -> None:
    now = clock()

    def revoke_user(connection: Connection) -> None:
        kind = RevocationKind.REVOCATION_KIND_USER
        revocations.record(connection, kind, "user", now + timedelta(hours=1))
        connection.execute(update(revocations_table).values(revoked_at=now))

    database.write(revoke_user)

    def revoked(issued_at: float) -> bool:
        claims = {"jti": "j", "sid": "s", "tmi_user_id": "user", "iat": int(issued_at)}
        return database.read(lambda connection: revocations.is_revoked(connection, claims))

    assert revoked(now.timestamp() - 1)
    assert not revoked(now.timestamp() + 1)


def test_housekeeping_deletes_what_has_expired_and_nothing_else(database: Database, clock: Clock) -> None:
    sessions = LoginSessions(Settings(session_lifetime_days=1))
    user, session, _ = open_session(database, clock, sessions)
    database.write(lambda connection: sessions.end(connection, session.id, user.id, clock()))
    database.write(
        lambda connection: connection.execute(
            sql_dialect.insert(connection, signing_keys).values(
                kid="k", algorithm="ES256", private_key="", created_at=clock(), active_from=clock(), retired_at=clock()
            )
        )
    )
    clock.advance(hours=25)
    open_session(database, clock, sessions)
    deleted = database.write(lambda connection: housekeeping.delete_expired(connection, clock()))
    assert deleted["login_sessions"] > 0
    assert count(database, login_sessions) == 1
    assert count(database, refresh_tokens) == 1
    assert count(database, revocations_table) == 0
    assert count(database, signing_keys) == 0
    assert count(database, users_table) == 1


def test_housekeeping_survives_a_database_that_is_away(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    away = Database("postgresql://127.0.0.1:1/nowhere", "auth")
    with caplog.at_level(logging.WARNING):
        housekeeping.run(away, clock())
    assert "expired rows not deleted" in caplog.text
    away.engine.dispose()
