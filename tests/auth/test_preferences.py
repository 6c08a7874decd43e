from dataclasses import replace
from typing import Any

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody
from sqlalchemy import delete

from services.auth.account.preferences import LARGEST_BYTES, Preferences
from services.auth.account.tables import user_preferences
from services.auth.directory.tables import users
from services.shared.access import Requirement
from services.shared.database import Database
from services.shared.errors import ApiError
from services.shared.principal import Call
from tests.auth.client import Answer, AuthClient, Clock
from tests.auth.storage import ALICE, at_once, count, log_in
from tmi.auth.v1 import me_pb2
from tmi.principal.v1.principal_pb2 import Principal

DARK = {"tmi-ux": {"theme": "dark", "columns": [1, 2.50, None], "größe": {"a": True}}}


class Person:
    """Calls the handlers for one user."""

    def __init__(self, database: Database, clock: Clock, user_id: str) -> None:
        self._handlers = Preferences(database, clock)
        self._call = Call(Requirement(), Principal(user_id=user_id), "", "")

    def get(self) -> Any:
        return orjson.loads(self._handlers.get(me_pb2.GetCurrentUserPreferencesRequest(), self._call).body)

    def create(self, body: Any) -> Any:
        request = me_pb2.CreateCurrentUserPreferencesRequest(body=_body(body))
        return orjson.loads(self._handlers.create(request, self._call).body)

    def update(self, body: Any) -> Any:
        request = me_pb2.UpdateCurrentUserPreferencesRequest(body=_body(body))
        return orjson.loads(self._handlers.update(request, self._call).body)


def _body(body: Any) -> HttpBody:
    return HttpBody(content_type="application/json", data=body if isinstance(body, bytes) else orjson.dumps(body))


@pytest.fixture
def alice(database: Database, clock: Clock) -> Person:
    return Person(database, clock, log_in(database, ALICE, clock).id)


def test_there_are_none_at_first(alice: Person) -> None:
    assert alice.get() == {}


def test_what_was_stored_is_read_again(alice: Person) -> None:
    assert alice.create(DARK) == DARK
    assert alice.get() == DARK


def test_they_are_created_once(alice: Person) -> None:
    alice.create(DARK)
    with pytest.raises(ApiError) as caught:
        alice.create({})
    assert (caught.value.status, caught.value.code) == (409, "conflict")
    assert alice.get() == DARK


def test_of_two_that_create_them_at_once_one_wins(database: Database, alice: Person) -> None:
    def create() -> bool:
        try:
            return bool(alice.create(DARK))
        except ApiError as error:
            return error.status != 409

    assert sorted(at_once(create, 3)) == [False, False, True]
    assert count(database, user_preferences) == 1


def test_an_update_creates_or_replaces_all_of_them(alice: Person) -> None:
    assert alice.update(DARK) == DARK
    assert alice.update({"tmi-cli": {}}) == {"tmi-cli": {}}
    assert alice.get() == {"tmi-cli": {}}
    assert alice.update({}) == {}


def test_they_are_the_users_own(database: Database, clock: Clock, alice: Person) -> None:
    other = Person(
        database, clock, log_in(database, replace(ALICE, provider_id="bob", email="bob@tmi.local"), clock).id
    )
    alice.create(DARK)
    assert other.get() == {}
    other.update({})
    assert alice.get() == DARK


def test_they_go_with_their_user(database: Database, alice: Person) -> None:
    alice.create(DARK)
    database.write(lambda connection: connection.execute(delete(users)))
    assert count(database, user_preferences) == 0


def sized(length: int) -> dict[str, Any]:
    """Preferences of so many bytes of compact JSON."""
    empty = {"c": {"k": ""}}
    return {"c": {"k": "x" * (length - len(orjson.dumps(empty)))}}


def test_the_largest_ones_and_the_most_clients(alice: Person) -> None:
    assert alice.update(sized(LARGEST_BYTES)) == sized(LARGEST_BYTES)
    # Spaces between the members are not kept, and so do not count.
    assert alice.update(orjson.dumps(sized(LARGEST_BYTES)) + b" " * 500) == sized(LARGEST_BYTES)
    most: dict[str, Any] = {f"client_{number}-{'x' * 20}": {} for number in range(20)}
    assert alice.update(most) == most


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        [],
        "text",
        None,
        {"tmi-ux": "dark"},
        {"tmi-ux": None},
        {"tmi-ux": []},
        {"": {}},
        {"tmi ux": {}},
        {"tmi.ux": {}},
        {"ü": {}},
        {"tmi-ux\n": {}},
        {"x" * 65: {}},
        {f"client-{number}": {} for number in range(21)},
        sized(LARGEST_BYTES + 1),
        {"c": {"k": "ä" * 600}},
    ],
    ids=str,
)
def test_what_breaks_the_rules_is_refused_and_changes_nothing(alice: Person, body: Any) -> None:
    alice.create(DARK)
    for write in (alice.create, alice.update):
        with pytest.raises(ApiError) as caught:
            write(body)
        assert (caught.value.status, caught.value.code) == (400, "invalid_input")
    assert alice.get() == DARK


def test_over_rpc(client: AuthClient) -> None:
    access = client.log_in().access

    def call(rpc: Any, request: Any) -> Answer:
        return client.call(rpc, request, access)

    created = call(
        client.preferences.CreateCurrentUserPreferences, me_pb2.CreateCurrentUserPreferencesRequest(body=_body(DARK))
    )
    updated = call(
        client.preferences.UpdateCurrentUserPreferences, me_pb2.UpdateCurrentUserPreferencesRequest(body=_body({}))
    )
    read = call(client.preferences.GetCurrentUserPreferences, me_pb2.GetCurrentUserPreferencesRequest())
    assert (created.json, updated.json, read.json) == (DARK, {}, {})
    refused = client.call(client.preferences.GetCurrentUserPreferences, me_pb2.GetCurrentUserPreferencesRequest())
    assert refused.status == 401
