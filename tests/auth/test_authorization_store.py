import logging

import pytest

from services.auth.oauth.authorization_store import AuthorizationRequest, AuthorizationStore
from services.shared import redis_connection

REQUEST = AuthorizationRequest("tmi", "https://a.example/cb", "challenge")


@pytest.fixture
def store(redis_url: str) -> AuthorizationStore:
    return AuthorizationStore(redis_connection.connect(redis_url))


def test_a_state_is_taken_once_and_a_later_request_replaces_it(store: AuthorizationStore) -> None:
    store.remember_state("s", AuthorizationRequest("tmi", "", "other"))
    store.remember_state("s", REQUEST)
    assert store.take_state("s") == REQUEST
    assert store.take_state("s") is None


def test_a_code_is_taken_once_and_not_replaced_while_it_waits(store: AuthorizationStore) -> None:
    assert store.remember_code("c", REQUEST) is True
    assert store.remember_code("c", AuthorizationRequest("tmi", "", "other")) is False
    assert store.take_code("c") == REQUEST
    assert store.take_code("c") is None


def test_a_redeemed_code_leads_to_its_session(store: AuthorizationStore) -> None:
    assert store.session_opened_by("c") is None
    store.remember_redeemed("c", "session")
    assert store.session_opened_by("c") == "session"


def test_losing_the_note_of_a_redeemed_code_is_logged_and_does_not_fail(caplog: pytest.LogCaptureFixture) -> None:
    store = AuthorizationStore(redis_connection.connect("unix:///nowhere/valkey.sock"))
    with caplog.at_level(logging.WARNING):
        store.remember_redeemed("secret-code", "session")
    assert "redeemed code not noted" in caplog.text
    assert "secret-code" not in caplog.text
