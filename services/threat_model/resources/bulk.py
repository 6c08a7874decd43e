"""Several rows of one collection in one request: all or none of them."""

from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.message import Message
from pydantic import RootModel
from sqlalchemy import Connection

from services.shared import rfc3339
from services.shared.database import Database
from services.shared.errors import invalid_input
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.threat_model.resources import bodies, json_patch, preconditions
from services.threat_model.resources.bodies import Body, ClosedBody, Uuid
from services.threat_model.resources.requests import BodyRequest, take_version, target_of
from services.threat_model.resources.rows import Revision, Rows
from services.threat_model.resources.writing import Patch, new_members, replacement


class _Identified(Body):
    id: Uuid


class _RowPatch(ClosedBody):
    id: Uuid
    operations: list[Any]


class _Patches(ClosedBody):
    patches: list[_RowPatch]


_Ids = RootModel[list[Uuid]]


class Bulk:
    """Handlers that write several rows of one resource."""

    def __init__(self, rows: Rows, database: Database) -> None:
        self._rows = rows
        self._resource = rows.resource
        self._database = database

    def create(self, request: Any, call: Call) -> Reply:
        """POST of an array: new rows, answered in its order."""
        items = self._items(request)
        model, read_only = self._resource.create_body, self._resource.read_only
        drafts = {self._resource.new_id(): new_members(model, item, read_only) for item in items}
        target = target_of(self._resource, request, call)
        return _array(
            self._database.write(lambda connection: self._rows.create(connection, target, drafts, rfc3339.now()))
        )

    def replace(self, request: Any, call: Call) -> Reply:
        """PUT of an array: each item replaces the row whose `id` it has, as a PUT of the one would.

        Where the resource says so, an id that no row has becomes a new row. Raises ApiError 404, and 409 when
        an item has a `version` that is not the row's.
        """
        resource = self._resource
        items = self._items(request)
        documents = {bodies.validate(_Identified, item).id: _without_id(item) for item in items}
        self._check_distinct(len(items), documents)
        versions = {id_: take_version(document) for id_, document in documents.items()}
        values = {id_: replacement(resource, document) for id_, document in documents.items()}
        target = target_of(resource, request, call)
        members = self._rows.members_with({name for each in values.values() for name in each})

        def work(connection: Connection) -> dict[str, str]:
            now = rfc3339.now()
            new: set[str] = set()
            if resource.bulk_creates:
                self._rows.require_root(connection, target, self._rows.statements.share_root)
                new = self._rows.unused(connection, list(values))
            rows = self._rows.lock_many(connection, target, [id_ for id_ in values if id_ not in new], members)
            for row in rows:
                preconditions.check(versions[row.id], row.version)
            answers = self._rows.change(
                connection, target, [Revision(row, values[row.id]) for row in rows], "updated", now
            )
            if new:
                drafts = {id_: new_members(resource.create_body, documents[id_], ()) for id_ in values if id_ in new}
                answers |= self._rows.create(connection, target, drafts, now)
            return {id_: answers[id_] for id_ in values}

        return _array(self._database.write(work))

    def patch(self, request: Any, call: Call) -> Reply:
        """PATCH with `{"patches": [{"id", "operations"}]}`: a JSON Patch for each of several rows."""
        body: BodyRequest = request
        parsed = bodies.validate(_Patches, bodies.parse_object(body.body.data))
        patches = {
            each.id: Patch(self._resource.patch_body, json_patch.checked(each.operations)) for each in parsed.patches
        }
        self._check_distinct(len(parsed.patches), patches)
        target = target_of(self._resource, request, call)
        members = self._rows.members_with({name for patch in patches.values() for name in patch.mentioned})

        def work(connection: Connection) -> dict[str, str]:
            rows = self._rows.lock_many(connection, target, list(patches), members)
            revisions = [Revision(row, patches[row.id].revise(row)) for row in rows]
            return self._rows.change(connection, target, revisions, "patched", rfc3339.now())

        return _array(self._database.write(work))

    def delete(self, request: Message, call: Call) -> Reply:
        """DELETE of the rows that the query names."""
        ids = bodies.validate(_Ids, list(getattr(request, f"{self._resource.kind}_ids"))).root
        self._check_distinct(len(ids), dict.fromkeys(ids))
        target = target_of(self._resource, request, call)

        def work(connection: Connection) -> None:
            rows = self._rows.lock_to_delete(connection, target, ids)
            self._rows.delete(connection, target, rows, rfc3339.now())

        self._database.write(work)
        return Reply(orjson.dumps({"deleted_count": len(ids), "deleted_ids": ids}))

    def _items(self, request: BodyRequest) -> list[dict[str, Any]]:
        items = bodies.parse(request.body.data)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise invalid_input("The body must be an array of objects.")
        self._check_number(len(items))
        return items

    def _check_number(self, number: int) -> None:
        if not 1 <= number <= self._resource.most_in_bulk:
            raise invalid_input(f"There must be 1 to {self._resource.most_in_bulk} items.")

    def _check_distinct(self, number: int, by_id: Mapping[str, object]) -> None:
        self._check_number(number)
        if len(by_id) < number:
            raise invalid_input("An id may occur only once.")


def _without_id(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "id"}


def _array(documents: Mapping[str, str]) -> Reply:
    return Reply(f"[{','.join(documents.values())}]".encode())
