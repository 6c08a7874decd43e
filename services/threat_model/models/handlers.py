"""Threat models: the root resource, with its list of who may do what and its embedded children."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, select

from services.shared import rfc3339
from services.shared.database import Database
from services.shared.errors import conflict
from services.shared.principal import Call
from services.shared.rpc import Handler, Reply
from services.shared.sql_dialect import (
    JsonUuid,
    JsonVerbatim,
    UtcDateTime,
    UuidText,
    WriteReturning,
    json_array,
    json_object,
)
from services.shared.uuids import uuid4
from services.threat_model.access import entries as authorization_list
from services.threat_model.access import roles as access
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.audit import recording as audit
from services.threat_model.cells.tables import diagrams
from services.threat_model.models.bodies import DEFAULT_STATUS, AuthorizationEntry, ThreatModelBody, roles_of
from services.threat_model.models.documents import CHILDREN, DOCUMENT, OWN_DOCUMENT
from services.threat_model.models.listing import list_threat_models
from services.threat_model.models.patching import (
    Revision,
    ThreatModelPatch,
    columns_of,
    present_roles,
    require_owner,
)
from services.threat_model.people.copies import PrincipalName, Principals
from services.threat_model.resources import bodies, json_patch, preconditions
from services.threat_model.resources.aliases import next_alias
from services.threat_model.resources.tables import NO_SCOPE

KIND = "threat_model"

_c = threat_models.c
_ROW_ID = bindparam("row_id", type_=UuidText)
_LIVE = (_c.id == _ROW_ID, _c.deleted_at.is_(None))
_ROLE = access.role_on(_c.id).label("role")
_ENTRIES = json_array(
    select(
        json_object(
            {
                "id": JsonUuid(threat_model_access.c.principal_id),
                "role": JsonVerbatim(threat_model_access.c.role),
            }
        )
    )
    .where(threat_model_access.c.threat_model_id == _c.id)
    .correlate(threat_models)
)
_read = threat_models.alias("read")

_GET = select(_ROLE, _c.version, DOCUMENT.label("document")).where(*_LIVE)
_READ = select(
    _ROLE,
    _c.id,
    _c.version,
    select(_read.c.version).where(_read.c.id == _c.id).correlate(threat_models).scalar_subquery().label("read_version"),
    OWN_DOCUMENT.label("document"),
    _ENTRIES.label("entries"),
    _c.owner_id,
    _c.security_reviewer_id,
    _c.project_id,
    _c.status,
).where(*_LIVE)
_LOCK = _READ.with_for_update(of=threat_models, key_share=True)
_INSERT = threat_models.insert()
_SELECT = select(DOCUMENT).where(_c.id == _ROW_ID)
_UPDATE = threat_models.update().where(_c.id == _ROW_ID)
_UPDATE_RETURNING = WriteReturning(_UPDATE, DOCUMENT, _c.id)
_DELETE_CHILDREN = [
    child.table.update()
    .where(child.table.c.threat_model_id == _ROW_ID, child.table.c.deleted_at.is_(None))
    .values(deleted_at=bindparam("now", type_=UtcDateTime()), version=child.table.c.version + 1)
    for child in CHILDREN.values()
]
_LOCK_SESSIONS = (
    select(diagrams.c.session_id)
    .where(diagrams.c.threat_model_id == _ROW_ID, diagrams.c.deleted_at.is_(None))
    .with_for_update(of=diagrams, key_share=True)
)


class ThreatModelHandlers:
    """Handlers of the ThreatModels service."""

    def __init__(self, database: Database, principals: Principals, *, require_if_match: bool = False) -> None:
        self._database = database
        self._principals = principals
        self._require_if_match = require_if_match

    def handlers(self) -> dict[str, Handler]:
        """By RPC name."""
        return {
            "ListThreatModels": self.list,
            "CreateThreatModel": self.create,
            "GetThreatModel": self.get,
            "ReplaceThreatModel": self.replace,
            "PatchThreatModel": self.patch,
            "DeleteThreatModel": self.delete,
        }

    def list(self, request: Any, call: Call) -> Reply:
        """A page of the caller's threat models."""
        return list_threat_models(self._database, request, call)

    def get(self, request: Any, call: Call) -> Reply:
        """One threat model with its threats and diagrams."""
        parameters = _scope(request, call)
        row = self._database.read(lambda connection: connection.execute(_GET, parameters).one_or_none())
        if row is None:
            raise access.no_threat_model()
        access.require(row.role, call.gate)
        return Reply(row.document.encode(), headers=[preconditions.entity_tag(row.version)])

    def create(self, request: Any, call: Call) -> Reply:
        """A new threat model, owned by the caller."""
        body = bodies.validate(ThreatModelBody, bodies.parse_object(request.body.data))
        entries = body.authorization or []
        ids = self._principals.resolve((entry.principal for entry in entries), call, create_missing=True)
        creator = call.caller.user_id
        roles = authorization_list.at_creation(creator, roles_of(entries, ids), confidential=body.is_confidential)
        members = body.members()
        del members["authorization"]
        row_id = uuid4()
        now = rfc3339.now()

        def work(connection: Connection) -> bytes:
            connection.execute(
                _INSERT,
                columns_of(members)
                | {
                    "id": row_id,
                    "alias": next_alias(connection, NO_SCOPE, KIND),
                    "status": DEFAULT_STATUS,
                    "status_updated": now,
                    "owner_id": creator,
                    "created_by": creator,
                    "metadata": members["metadata"] or [],
                    "version": 1,
                    "created_at": now,
                    "modified_at": now,
                },
            )
            authorization_list.store(connection, row_id, {}, roles)
            document: bytes = connection.execute(_SELECT, {"row_id": row_id}).scalar_one().encode()
            audit.record(connection, call.caller, audit.Change("created", KIND, row_id, row_id, 1, document, None, now))
            return document

        document = self._database.write(work)
        return Reply(document, headers=[("location", f"/threat_models/{row_id}"), preconditions.entity_tag(1)])

    def replace(self, request: Any, call: Call) -> Reply:
        """PUT: what the body can name, except that absent metadata and authorization stay."""
        body = bodies.validate(ThreatModelBody, bodies.parse_object(request.body.data))
        requested = None
        if body.authorization is not None:
            ids = self._resolve(body.authorization, request, call)
            requested = roles_of(body.authorization, ids)

        def revise(row: Row[Any]) -> Revision:
            members = body.members()
            left_alone = {"authorization", "is_confidential"} | ({"metadata"} - body.given())
            values = {name: value for name, value in members.items() if name not in left_alone}
            roles = present = present_roles(row)
            if requested is not None:
                roles = authorization_list.revised(requested, owners=[row.owner_id], protected=row.security_reviewer_id)
            if roles != present:
                require_owner(row.role)
            return Revision(columns_of(values), roles, audit.summarize(orjson.loads(row.document), values))

        return self._change(request, call, "updated", revise)

    def _resolve(self, entries: Sequence[AuthorizationEntry], request: Any, call: Call) -> dict[PrincipalName, str]:
        names = [entry.principal for entry in entries]
        ids = self._principals.resolve(names, call, create_missing=False)
        if len(ids) < len(names):
            # Only an owner may bring in somebody new, so only for an owner is anybody recorded.
            require_owner(self._read(request, call).role)
            ids = self._principals.resolve(names, call, create_missing=True)
        return ids

    def patch(self, request: Any, call: Call) -> Reply:
        """PATCH (RFC 6902) on the document. A member that has no value counts as null or empty."""
        patch = ThreatModelPatch(json_patch.parse(request.body.data), self._principals, call)
        if patch.names_people:
            patch.resolve_people(self._read(request, call))
        return self._change(request, call, "patched", patch.revise)

    def delete(self, request: Any, call: Call) -> Reply:
        """Soft delete, with all children, at one instant."""

        def work(connection: Connection) -> None:
            row = _locked(connection, request, call)
            if any(connection.execute(_LOCK_SESSIONS, {"row_id": row.id}).scalars()):
                raise conflict("The threat model cannot be deleted now: a collaboration session is active.")
            now = rfc3339.now()
            for statement in _DELETE_CHILDREN:
                connection.execute(statement, {"row_id": row.id, "now": now})
            connection.execute(_UPDATE, {"row_id": row.id, "deleted_at": now, "version": row.version + 1})
            snapshot = row.document.encode()
            audit.record(
                connection,
                call.caller,
                audit.Change("deleted", KIND, row.id, row.id, row.version + 1, snapshot, None, now),
            )

        self._database.write(work)
        return Reply()

    def _change(
        self, request: Any, call: Call, change_type: audit.ChangeType, revise: Callable[[Row[Any]], Revision]
    ) -> Reply:
        if_match = request.if_match if request.HasField("if_match") else None
        expected = preconditions.expected_version(if_match, required=self._require_if_match)

        def work(connection: Connection) -> tuple[bytes, int]:
            row = _locked(connection, request, call)
            preconditions.check(expected, row.version)
            revision = revise(row)
            now = rfc3339.now()
            columns = revision.columns | {"row_id": row.id, "version": row.version + 1, "modified_at": now}
            if columns.get("status", row.status) != row.status:
                columns["status_updated"] = now
            authorization_list.store(connection, row.id, present_roles(row), revision.roles)
            document: bytes = _UPDATE_RETURNING.scalar(connection, columns, row.id).encode()
            snapshot = row.document.encode()
            audit.record(
                connection,
                call.caller,
                audit.Change(change_type, KIND, row.id, row.id, row.version + 1, snapshot, revision.summary, now),
            )
            return document, row.version + 1

        document, version = self._database.write(work)
        return Reply(document, headers=[preconditions.entity_tag(version)])

    def _read(self, request: Any, call: Call) -> Row[Any]:
        parameters = _scope(request, call)
        row = self._database.read(lambda connection: connection.execute(_READ, parameters).one_or_none())
        return _checked(row, call)


def _locked(connection: Connection, request: Any, call: Call) -> Row[Any]:
    """The live row, locked, if the caller's role is enough. Raises ApiError 403 or 404."""
    parameters = _scope(request, call)
    row = connection.execute(_LOCK, parameters).one_or_none()
    if row is not None and row.version != row.read_version:
        # The lock was waited for: the row is the present one, what was read beside it is older.
        row = connection.execute(_LOCK, parameters).one_or_none()
    return _checked(row, call)


def _checked(row: Row[Any] | None, call: Call) -> Row[Any]:
    if row is None:
        raise access.no_threat_model()
    access.require(row.role, call.gate)
    return row


def _scope(request: Any, call: Call) -> dict[str, Any]:
    return {"row_id": request.threat_model_id, access.PRINCIPAL_IDS: access.principal_ids(call.caller)}
