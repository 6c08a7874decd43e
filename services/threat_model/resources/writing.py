"""Create, replace, patch and delete one row: one transaction each, answered by the expression that GET answers."""

from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import orjson
from google.protobuf.message import Message
from sqlalchemy import Connection, Row

from services.shared import rfc3339
from services.shared.database import Database
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.threat_model.audit.recording import ChangeType
from services.threat_model.resources import bodies, json_patch, preconditions
from services.threat_model.resources.bodies import Body
from services.threat_model.resources.declaration import Members, Resource
from services.threat_model.resources.json_patch import PatchOperation
from services.threat_model.resources.requests import BodyRequest, expected_version, row_id_of, take_version, target_of
from services.threat_model.resources.rows import Revision, Rows


class Writing:
    """Handlers that write one row. require_if_match: refuse PUT and PATCH without a version (428)."""

    def __init__(self, rows: Rows, database: Database, *, require_if_match: bool) -> None:
        self._rows = rows
        self._resource = rows.resource
        self._database = database
        self._require_if_match = require_if_match

    def create(self, request: Any, call: Call) -> Reply:
        """A new row."""
        resource = self._resource
        body: BodyRequest = request
        document = bodies.parse_object(body.body.data)
        values = new_members(resource.create_body, document, resource.read_only)
        target = target_of(resource, request, call)
        prepared = self._prepared(call, "created", values, lambda: None)
        row_id = resource.new_id()
        now = rfc3339.now()
        documents = self._database.write(
            lambda connection: self._rows.create(connection, target, {row_id: values}, now, prepared)
        )
        location = resource.location(target.scope_id, row_id)
        return Reply(documents[row_id].encode(), headers=[("location", location), preconditions.entity_tag(1)])

    def replace(self, request: Any, call: Call) -> Reply:
        """PUT: every writable member is set, those left out to nothing, except those that are left alone."""
        resource = self._resource
        body: BodyRequest = request
        document = bodies.parse_object(body.body.data)
        version = take_version(document)
        values = replacement(resource, document)
        return self._change(request, call, "updated", frozenset(values), lambda _: values, version)

    def patch(self, request: Any, call: Call) -> Reply:
        """PATCH (RFC 6902) on the document. A member that has no value counts as null or empty."""
        body: BodyRequest = request
        patch = Patch(self._resource.patch_body, json_patch.parse(body.body.data))
        return self._change(request, call, "patched", patch.mentioned, lambda present: patch.revise(present()), None)

    def delete(self, request: Message, call: Call) -> Reply:
        """Soft delete."""
        target = target_of(self._resource, request, call)
        row_id = row_id_of(self._resource, request)
        expected = expected_version(request, None, required=False)

        def work(connection: Connection) -> None:
            (row,) = self._rows.lock_to_delete(connection, target, [row_id])
            preconditions.check(expected, row.version)
            self._rows.delete(connection, target, [row], rfc3339.now())

        self._database.write(work)
        return Reply()

    def _change(
        self,
        request: Message,
        call: Call,
        change_type: ChangeType,
        members: frozenset[str],
        revise: Callable[[Callable[[], Row[Any]]], Members],
        version: int | None,
    ) -> Reply:
        target = target_of(self._resource, request, call)
        row_id = row_id_of(self._resource, request)
        expected = expected_version(request, version, required=self._require_if_match)
        read = self._rows.members_with(members)

        @cache
        def present() -> Row[Any]:
            return self._database.read(lambda connection: self._rows.read(connection, target, row_id, read))

        prepared = None
        if members & self._resource.rules.prepares:
            prepared = self._prepared(call, change_type, revise(present), present)

        def work(connection: Connection) -> tuple[str, int]:
            row = self._rows.lock(connection, target, row_id, read)
            preconditions.check(expected, row.version)
            revision = Revision(row, revise(lambda: row), prepared)
            answers = self._rows.change(connection, target, [revision], change_type, rfc3339.now())
            return answers[row.id], row.version + 1

        answer, new_version = self._database.write(work)
        return Reply(answer.encode(), headers=[preconditions.entity_tag(new_version)])

    def _prepared(self, call: Call, change_type: ChangeType, values: Members, present: Callable[[], Any]) -> Any:
        rules = self._resource.rules
        return rules.prepare(call, change_type, values, present) if values.keys() & rules.prepares else None


def new_members(model: type[Body], document: dict[str, Any], read_only: Collection[str]) -> dict[str, Any]:
    """The members of a new row from the body of a POST. Raises ApiError 400."""
    bodies.refuse(document, read_only)
    return bodies.validate(model, document).members()


def replacement(resource: Resource, document: dict[str, Any]) -> Members:
    """What the body of a PUT sets. Raises ApiError 400."""
    bodies.refuse(document, resource.read_only)
    body = bodies.validate(resource.replace_body, document)
    left_alone = resource.left_alone - body.given()
    return {name: value for name, value in body.members().items() if name not in left_alone}


class Patch:
    """A patch document (RFC 6902) for rows whose members `model` describes. Raises ApiError 400.

    Only the members that it touches are judged: one that went wrong long ago does not block other edits.
    """

    def __init__(self, model: type[Body], operations: list[PatchOperation]) -> None:
        self._model = model
        self._operations = operations
        self._touched = json_patch.touched_members(operations)
        json_patch.check_members(self._touched, model.model_fields)
        self.mentioned = frozenset(json_patch.mentioned_members(operations))

    def revise(self, row: Row[Any]) -> Members:
        """The members that the patch sets in a row that was read with the mentioned ones."""
        blank = {name: value for name, value in self._model.blank().items() if name in self.mentioned}
        patched = json_patch.apply(blank | orjson.loads(row.document), self._operations)
        return bodies.validate_members(self._model, patched, self._touched)
