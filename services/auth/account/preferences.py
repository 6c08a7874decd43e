"""GET, POST and PUT /me/preferences: what clients keep for their user, an object by client id.

Small on purpose, since every client reads all of it at its start: what is stored is at most LARGEST_BYTES of
compact JSON from at most MOST_CLIENTS clients.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody
from sqlalchemy import Connection, select

from services.auth.account.tables import user_preferences
from services.shared import sql_dialect
from services.shared.database import Database
from services.shared.errors import conflict, invalid_input
from services.shared.principal import Call
from services.shared.rpc import Reply
from tmi.auth.v1.me_pb2 import (
    CreateCurrentUserPreferencesRequest,
    GetCurrentUserPreferencesRequest,
    UpdateCurrentUserPreferencesRequest,
)

LARGEST_BYTES = 1024
MOST_CLIENTS = 20
_CLIENT_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Preferences:
    """Handlers of the three RPCs."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def get(self, _request: GetCurrentUserPreferencesRequest, call: Call) -> Reply:
        """All of them, `{}` when there are none."""
        query = select(user_preferences.c.preferences).where(user_preferences.c.user_id == call.caller.user_id)
        stored = self._database.read(lambda connection: connection.scalar(query))
        return Reply(orjson.dumps(stored or {}))

    def create(self, request: CreateCurrentUserPreferencesRequest, call: Call) -> Reply:
        """The first ones. 409 when there are some."""
        preferences = _checked(request.body)
        if not self._database.write(lambda connection: self._insert(connection, call.caller.user_id, preferences)):
            raise conflict("There are preferences already: replace them with PUT.")
        return Reply(orjson.dumps(preferences))

    def update(self, request: UpdateCurrentUserPreferencesRequest, call: Call) -> Reply:
        """These instead of all that there were, if any."""
        preferences = _checked(request.body)

        def work(connection: Connection) -> None:
            values = {"preferences": preferences, "modified_at": self._now()}
            connection.execute(
                sql_dialect.insert(connection, user_preferences)
                .values(user_id=call.caller.user_id, **values)
                .on_conflict_do_update(index_elements=[user_preferences.c.user_id], set_=values)
            )

        self._database.write(work)
        return Reply(orjson.dumps(preferences))

    def _insert(self, connection: Connection, user_id: str, preferences: dict[str, Any]) -> bool:
        inserted = connection.scalar(
            sql_dialect.insert(connection, user_preferences)
            .values(user_id=user_id, preferences=preferences, modified_at=self._now())
            .on_conflict_do_nothing()
            .returning(user_preferences.c.user_id)
        )
        return inserted is not None


def _checked(body: HttpBody) -> dict[str, Any]:
    """The body's object. Raises ApiError 400."""
    try:
        preferences = orjson.loads(body.data)
    except orjson.JSONDecodeError as error:
        raise invalid_input("The body is not valid JSON.") from error
    if not isinstance(preferences, dict):
        raise invalid_input("Preferences are an object with a member for each client.")
    if len(preferences) > MOST_CLIENTS:
        raise invalid_input(f"Preferences may be those of at most {MOST_CLIENTS} clients.")
    for client_id, own in preferences.items():
        if not _CLIENT_ID.fullmatch(client_id):
            raise invalid_input("The id of a client is 1 to 64 letters, digits, hyphens or underscores.")
        if not isinstance(own, dict):
            raise invalid_input(f"The preferences of {client_id} must be an object.")
    if len(orjson.dumps(preferences)) > LARGEST_BYTES:
        raise invalid_input(f"Preferences may have at most {LARGEST_BYTES} bytes.")
    return preferences
