import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jose import jws
from sqlalchemy import select, update

from services.auth.tokens.signing_keys import PUBLISH_AHEAD, RotationRefused, SigningKeys
from services.auth.tokens.tables import signing_keys as table
from services.shared.database import Database
from services.shared.encryption import UnreadableSecret
from services.shared.settings import Settings
from services.shared.startup import CannotStart
from tests.auth.client import AuthClient, Clock, Service, counted_statements
from tests.auth.conftest import Start
from tests.auth.storage import at_once
from tmi.auth.v1.directory_pb2 import ListSigningKeysRequest

FIRST_KEY, SECOND_KEY, THIRD_KEY = (bytes(range(start, start + 32)) for start in (0, 50, 100))
SECRET = "kX2vQ9-tR4mZ7pL1wC8nB5jH3gF6dS0a"


def keys_of(database: Database, clock: Clock, **settings: Any) -> SigningKeys:
    keys = SigningKeys(database, Settings(**{"build_mode": "test", **settings}), clock)
    keys.ensure()
    return keys


def kids(keys: SigningKeys) -> list[str]:
    return [key.kid for key in keys.published()]


def test_the_first_key_is_made_once_for_all_replicas(database: Database, clock: Clock) -> None:
    barrier = threading.Barrier(3)

    def start_replica() -> list[str]:
        barrier.wait(10)
        return kids(keys_of(database, clock))

    with ThreadPoolExecutor(3) as pool:
        found = [future.result(30) for future in [pool.submit(start_replica) for _ in range(3)]]
    assert all(len(one) == 1 for one in found)
    assert len({one[0] for one in found}) == 1


def test_a_rotation_overlaps_on_both_sides(database: Database, clock: Clock) -> None:
    keys = keys_of(database, clock)
    (old,) = kids(keys)
    active_from = keys.rotate()
    assert active_from >= clock() + PUBLISH_AHEAD - PUBLISH_AHEAD / 100
    # Published at once, signing later.
    assert kids(keys)[0] == keys.signer().kid == old
    new = kids(keys)[1]
    clock.advance(seconds=PUBLISH_AHEAD.total_seconds() - 10)
    assert keys.signer().kid == old
    clock.advance(seconds=11)
    assert keys.signer().kid == new
    # The old one stays until the last token it signed has expired, and goes then.
    clock.advance(seconds=3590)
    assert kids(keys) == [new, old]
    clock.advance(seconds=60)
    assert kids(keys) == [new]


def test_two_rotations_at_once_make_one_key(database: Database, clock: Clock) -> None:
    replicas = [keys_of(database, clock) for _ in range(2)]
    barrier = threading.Barrier(2)

    def rotate(keys: SigningKeys) -> None:
        barrier.wait(10)
        keys.rotate()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(rotate, keys) for keys in replicas]:
            future.result(30)
    newest = keys_of(database, clock)
    signing = [key for key in newest.published() if key.active_from and key.active_from <= clock()]
    assert len(signing) == 1


def test_another_replica_notices_a_rotation(database: Database, clock: Clock) -> None:
    one, other = keys_of(database, clock), keys_of(database, clock)
    old = other.signer().kid
    one.rotate()
    clock.advance(seconds=PUBLISH_AHEAD.total_seconds() + 1)
    assert other.signer().kid == one.signer().kid != old


def test_another_algorithm_signs_at_once_and_the_old_key_stays_for_its_tokens(database: Database, clock: Clock) -> None:
    (old,) = kids(keys_of(database, clock))
    keys = keys_of(database, clock, jwt_signing_method="RS256")
    assert keys.signer().algorithm == "RS256"
    assert old in kids(keys)
    clock.advance(seconds=2 * 3600 + 60)
    assert old not in kids(keys)


def test_a_key_made_by_a_replica_whose_clock_runs_ahead_is_used(database: Database, clock: Clock) -> None:
    ahead = Clock()
    ahead.advance(seconds=20)
    made = keys_of(database, ahead).signer().kid
    assert keys_of(database, clock).signer().kid == made


def test_hs256_uses_the_secret_and_cannot_be_rotated_here(database: Database, clock: Clock) -> None:
    keys = keys_of(database, clock, jwt_signing_method="HS256", jwt_secret=SECRET)
    assert [key.algorithm for key in keys.published()] == ["HS256"]
    assert SECRET not in keys.signer().kid
    with pytest.raises(RotationRefused):
        keys.rotate()


def test_signing_does_not_read_the_keys_every_time(database: Database, clock: Clock) -> None:
    keys = keys_of(database, clock)
    with counted_statements(database) as statements:
        for _ in range(10):
            keys.signer()
            keys.verification_keys()
    assert len(statements) == 1


def test_tokens_of_both_keys_are_valid_during_a_rotation(service: Service, clock: Clock) -> None:
    client: AuthClient = service.client
    before = client.log_in("alice").access
    service.keys.rotate()
    clock.advance(minutes=59)
    last_of_old = client.log_in("alice").access
    clock.advance(minutes=2)
    first_of_new = client.log_in("alice").access
    kid = [jws.get_unverified_header(token)["kid"] for token in (before, last_of_old, first_of_new)]
    assert kid[0] == kid[1] != kid[2]
    for token in (last_of_old, first_of_new):
        assert client.revoke(token, token="unknown").status == 0
    clock.advance(minutes=57)
    assert client.revoke(last_of_old, token="unknown").status == 0


def test_the_signing_key_comes_first_in_the_directory(start: Start, clock: Clock) -> None:
    service = start()
    service.keys.rotate()
    clock.advance(hours=1, seconds=1)
    token = service.client.log_in().access
    answer = service.client.directory.ListSigningKeys(ListSigningKeysRequest())
    assert len(answer.keys) == 2
    assert answer.keys[0].kid == jws.get_unverified_header(token)["kid"]
    assert all(key.verification_key.startswith(b"-----BEGIN PUBLIC KEY-----") for key in answer.keys)


def stored(database: Database) -> dict[str, str]:
    """What is in the database, by kid."""
    rows = database.read(lambda connection: connection.execute(select(table.c.kid, table.c.private_key)).all())
    return {row.kid: row.private_key for row in rows}


def with_keys(key: bytes, previous: bytes | None = None) -> dict[str, str]:
    settings = {"secret_settings_encryption_key": key.hex()}
    return settings if previous is None else settings | {"secret_settings_encryption_previous_key": previous.hex()}


def test_private_keys_are_encrypted_at_rest(database: Database, clock: Clock) -> None:
    keys = keys_of(database, clock, **with_keys(FIRST_KEY))
    keys.rotate()
    texts = stored(database)
    assert set(texts) == set(kids(keys))
    assert len(texts) == 2
    assert all(text.startswith("ENC:v1:") and "PRIVATE KEY" not in text for text in texts.values())
    assert keys.signer().signing_material.startswith("-----BEGIN PRIVATE KEY-----")


def test_keys_that_were_stored_before_there_was_an_encryption_key_are_encrypted_at_the_next_start(
    database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    without = keys_of(database, clock)
    before = without.signer()
    assert [record.getMessage() for record in caplog.records].count("signing keys are stored unencrypted") == 1
    assert "PRIVATE KEY" in stored(database)[before.kid]
    caplog.clear()
    assert keys_of(database, clock, **with_keys(FIRST_KEY)).signer() == before
    assert stored(database)[before.kid].startswith("ENC:v1:")
    assert not caplog.records


def test_encryption_keys_are_rotated_at_a_start(database: Database, clock: Clock) -> None:
    first = keys_of(database, clock, **with_keys(FIRST_KEY))
    first.rotate()
    before = {key.kid: key for key in first.published()}
    texts = stored(database)
    rotated = keys_of(database, clock, **with_keys(SECOND_KEY, FIRST_KEY))
    assert {key.kid: key for key in rotated.published()} == before
    assert not set(stored(database).values()) & set(texts.values())
    # The key before it is not needed any more, and of no use.
    assert {key.kid: key for key in keys_of(database, clock, **with_keys(SECOND_KEY)).published()} == before
    with pytest.raises(UnreadableSecret):
        keys_of(database, clock, **with_keys(FIRST_KEY))


def test_replicas_that_start_at_once_with_a_new_encryption_key(database: Database, clock: Clock) -> None:
    before = keys_of(database, clock).signer()
    found = at_once(lambda: keys_of(database, clock, **with_keys(FIRST_KEY)).signer(), 3)
    assert found == [before] * 3
    assert keys_of(database, clock, **with_keys(FIRST_KEY)).signer() == before


@pytest.mark.parametrize("settings", [{}, with_keys(SECOND_KEY), with_keys(SECOND_KEY, THIRD_KEY)])
def test_without_the_right_encryption_key_nothing_starts_and_nothing_changes(
    database: Database, clock: Clock, settings: dict[str, str]
) -> None:
    keys_of(database, clock, **with_keys(FIRST_KEY))
    texts = stored(database)
    with pytest.raises(UnreadableSecret):
        keys_of(database, clock, **settings)
    assert stored(database) == texts


def test_a_stored_key_cannot_take_the_place_of_another(database: Database, clock: Clock) -> None:
    keys = keys_of(database, clock, **with_keys(FIRST_KEY))
    keys.rotate()
    one, other = stored(database)
    text = stored(database)[one]
    database.write(lambda c: c.execute(update(table).where(table.c.kid == other).values(private_key=text)))
    with pytest.raises(UnreadableSecret, match=other):
        keys.published()


def test_production_does_not_store_keys_unencrypted(database: Database, clock: Clock) -> None:
    with pytest.raises(CannotStart, match="TMI_SECRET_SETTINGS_ENCRYPTION_KEY"):
        keys_of(database, clock, build_mode="production")
    assert stored(database) == {}
