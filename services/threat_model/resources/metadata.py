"""Metadata of a row of any kind: key-value pairs with unique keys, sorted by key.

One mechanism for all owners. A write locks the owner, reads and writes its metadata and nothing else of it,
and is a change of the owner: it counts the version and is recorded.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import orjson
from google.protobuf.message import Message
from pydantic import Field, RootModel
from sqlalchemy import Connection

from services.shared import rfc3339
from services.shared.database import Database
from services.shared.errors import conflict, invalid_input, not_found
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.threat_model.resources import bodies, preconditions
from services.threat_model.resources.bodies import ClosedBody, MetadataEntry, MetadataValue
from services.threat_model.resources.owners import Owners
from services.threat_model.resources.requests import BodyRequest, expected_version, text
from services.threat_model.resources.rows import Revision
from services.threat_model.resources.statements import METADATA

MOST_IN_A_REQUEST = 100

Values = dict[str, str]
"""Value by key."""


class NewValue(ClosedBody):
    """Body of PUT on a key; the key may be repeated in it."""

    value: MetadataValue
    key: str | None = None


class Entries(RootModel[Annotated[list[MetadataEntry], Field(max_length=MOST_IN_A_REQUEST)]]):
    """Body of the operations on several entries."""


class Metadata:
    """Handlers of the RPCs on metadata, by whose request the owner is told."""

    def __init__(self, owners: Owners, database: Database) -> None:
        self._owners = owners
        self._database = database

    def list(self, request: Message, call: Call) -> Reply:
        """Every entry, by key."""
        return Reply(self._read(request, call).encode())

    def get(self, request: Message, call: Call) -> Reply:
        """One entry. Raises ApiError 404."""
        key = text(request, "key")
        return _entry(key, _values(self._read(request, call)))

    def create(self, request: Any, call: Call) -> Reply:
        """A new entry. Raises ApiError 409 when its key is taken."""
        entry = bodies.validate(MetadataEntry, bodies.parse_object(_data(request)))
        values, tag = self._change(request, call, lambda present: _added(present, {entry.key: entry.value}))
        return _entry(entry.key, values, tag)

    def replace(self, request: Any, call: Call) -> Reply:
        """A new value for an existing key. Raises ApiError 404."""
        key = text(request, "key")
        body = bodies.validate(NewValue, bodies.parse_object(_data(request)))
        if body.key not in (None, key):
            raise invalid_input("key: is not the key in the path.")
        values, tag = self._change(request, call, lambda present: _existing(key, present) | {key: body.value})
        return _entry(key, values, tag)

    def delete(self, request: Message, call: Call) -> Reply:
        """Removes an entry. Raises ApiError 404."""
        key = text(request, "key")
        self._change(
            request, call, lambda present: {name: v for name, v in _existing(key, present).items() if name != key}
        )
        return Reply()

    def create_many(self, request: Any, call: Call) -> Reply:
        """New entries, all or none; every entry of the owner. Raises ApiError 409 when a key is taken."""
        given = _some(_entries(_data(request)))
        return self._whole(request, call, lambda present: _added(present, given))

    def upsert_many(self, request: Any, call: Call) -> Reply:
        """New entries and new values; every entry of the owner."""
        given = _some(_entries(_data(request)))
        return self._whole(request, call, lambda present: present | given)

    def replace_all(self, request: Any, call: Call) -> Reply:
        """These entries and no others."""
        given = _entries(_data(request))
        return self._whole(request, call, lambda _: given)

    def _read(self, request: Message, call: Call) -> str:
        rows, target, row_id = self._owners.of(request, call)
        statement = rows.statements.get_metadata
        parameters = target.parameters([row_id])
        row = self._database.read(lambda connection: connection.execute(statement, parameters).one_or_none())
        if row is None:
            raise rows.resource.scope.missing()
        call.require(row.role)
        if row.version is None:
            raise rows.resource.missing()
        answer: str = row.answer
        return answer

    def _whole(self, request: Message, call: Call, revise: Callable[[Values], Values]) -> Reply:
        values, tag = self._change(request, call, revise)
        return Reply(orjson.dumps(_document(values)), headers=[tag])

    def _change(
        self, request: Message, call: Call, revise: Callable[[Values], Values]
    ) -> tuple[Values, tuple[str, str]]:
        """The owner's metadata after the change, and the owner's new entity tag."""
        rows, target, row_id = self._owners.of(request, call)
        expected = expected_version(request, None, required=False)

        def work(connection: Connection) -> tuple[str, int]:
            row = rows.lock(connection, target, row_id, frozenset({METADATA}))
            preconditions.check(expected, row.version)
            revised = revise(_values_of(orjson.loads(row.document)[METADATA]))
            if len(revised) > rows.resource.most_metadata:
                raise invalid_input(f"There may be at most {rows.resource.most_metadata} entries.")
            revision = Revision(row, {METADATA: _document(revised)})
            answers = rows.change(connection, target, [revision], "updated", rfc3339.now(), "metadata")
            return answers[row_id], row.version + 1

        answer, version = self._database.write(work)
        return _values(answer), preconditions.entity_tag(version)


def _data(request: BodyRequest) -> bytes:
    data: bytes = request.body.data
    return data


def _entries(data: bytes) -> Values:
    """The entries of a body. Raises ApiError 400, also for a key that occurs twice."""
    entries = bodies.validate(Entries, bodies.parse(data))
    values = {entry.key: entry.value for entry in entries.root}
    if len(values) < len(entries.root):
        raise invalid_input("A key may occur only once.")
    return values


def _some(values: Values) -> Values:
    if not values:
        raise invalid_input("The body must have at least one entry.")
    return values


def _added(present: Values, given: Values) -> Values:
    if taken := sorted(present.keys() & given.keys()):
        raise conflict(f"There is an entry with the key {taken[0]} already.")
    return present | given


def _existing(key: str, present: Values) -> Values:
    if key not in present:
        raise not_found("There is no metadata with this key.")
    return present


def _entry(key: str, values: Values, *headers: tuple[str, str]) -> Reply:
    return Reply(orjson.dumps({"key": key, "value": _existing(key, values)[key]}), headers=list(headers))


def _values(text_: str) -> Values:
    return _values_of(orjson.loads(text_))


def _values_of(entries: list[Mapping[str, str]]) -> Values:
    return {entry["key"]: entry["value"] for entry in entries}


def _document(values: Values) -> list[dict[str, str]]:
    return [{"key": key, "value": values[key]} for key in sorted(values)]
