"""The one implementation of list, get, create, replace, patch and delete for children of a threat model.

Every read is one statement that carries the role check. Every write is one transaction: lock the
row together with reading role, version and document; check; change; record. The answer of a write
is selected by the same expression as a GET.
"""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection, Integer, Row, Select, and_, bindparam, func, null, select

from services.shared import rfc3339
from services.shared.database import Database
from services.shared.errors import ApiError, forbidden, not_found
from services.shared.principal import Call
from services.shared.rpc import Handler, Reply
from services.shared.sql_dialect import UuidText, WriteReturning, json_array
from services.threat_model.access import roles as access
from services.threat_model.access.tables import OWNER, threat_models
from services.threat_model.audit import recording as audit
from services.threat_model.resources import bodies, filters, json_patch, preconditions
from services.threat_model.resources.aliases import next_alias
from services.threat_model.resources.declaration import SubResource

_THREAT_MODEL_ID = bindparam("threat_model_id", type_=UuidText)
_ROW_ID = bindparam("row_id", type_=UuidText)
_LIVE_THREAT_MODEL = (threat_models.c.id == _THREAT_MODEL_ID, threat_models.c.deleted_at.is_(None))


class SubResourceHandlers:
    """Handlers of one sub-resource. require_if_match: refuse PUT and PATCH without If-Match (428)."""

    def __init__(self, resource: SubResource, database: Database, *, require_if_match: bool = False) -> None:
        self._resource = resource
        self._database = database
        self._require_if_match = require_if_match
        self._statements = _Statements(resource)

    def handlers(self) -> dict[str, Handler]:
        """By RPC name."""
        name = self._resource.name
        return {
            f"List{self._resource.plural.capitalize()}": self.list,
            f"Create{name}": self.create,
            f"Get{name}": self.get,
            f"Replace{name}": self.replace,
            f"Patch{name}": self.patch,
            f"Delete{name}": self.delete,
        }

    def list(self, request: Any, call: Call) -> Reply:
        """A page of the threat model's children. Deleted ones are for owners and administrators."""
        values = filters.present(self._resource.filters, request)
        statement = self._statements.page(
            tuple(sorted(values)), getattr(request, "sort", ""), include_deleted=request.include_deleted
        )
        parameters = values | self._scope(request, call) | {"limit": request.limit, "offset": request.offset}
        row = self._database.read(lambda connection: connection.execute(statement, parameters).one_or_none())
        if row is None:
            raise access.no_threat_model()
        access.require(row.role, call.gate)
        if request.include_deleted and row.role != OWNER and not call.caller.is_administrator:
            raise forbidden("Only an owner or an administrator may list what was deleted.")
        return Reply(
            b'{"%b":%b,"total":%d,"limit":%d,"offset":%d}'
            % (self._resource.plural.encode(), row.page.encode(), row.total, request.limit, request.offset)
        )

    def get(self, request: Any, call: Call) -> Reply:
        """One child."""
        parameters = self._scope(request, call)
        row = self._database.read(lambda connection: connection.execute(self._statements.get, parameters).one_or_none())
        if row is None:
            raise access.no_threat_model()
        access.require(row.role, call.gate)
        if row.version is None:
            raise self._missing()
        return Reply(row.document.encode(), headers=[preconditions.entity_tag(row.version)])

    def create(self, request: Any, call: Call) -> Reply:
        """A new child."""
        resource = self._resource
        document = bodies.parse_object(request.body.data)
        bodies.refuse(document, resource.read_only)
        values = bodies.validate(resource.create_body, document).members()
        row_id = resource.new_id()

        def work(connection: Connection) -> bytes:
            role = connection.execute(self._statements.lock_parent, self._scope(request, call)).one_or_none()
            if role is None:
                raise access.no_threat_model()
            access.require(role.role, call.gate)
            resource.rules.check(connection, request.threat_model_id, {}, values)
            now = rfc3339.now()
            columns = resource.rules.store(connection, None, values)
            created = self._statements.insert.scalar(
                connection,
                columns
                | {
                    "id": row_id,
                    "threat_model_id": request.threat_model_id,
                    "alias": next_alias(connection, request.threat_model_id, resource.kind),
                    "auto_generated": call.caller.is_service_account,
                    "version": 1,
                    "created_at": now,
                    "modified_at": now,
                },
                row_id,
            )
            body = self._whole(created, "[]")
            change = audit.Change("created", resource.kind, request.threat_model_id, row_id, 1, body, None, now)
            audit.record(connection, call.caller, change)
            return body

        body = self._database.write(work)
        location = f"/threat_models/{request.threat_model_id}/{resource.plural}/{row_id}"
        return Reply(body, headers=[("location", location), preconditions.entity_tag(1)])

    def replace(self, request: Any, call: Call) -> Reply:
        """PUT: every writable member is set, those left out to nothing, except the kept ones."""
        resource = self._resource
        document = bodies.parse_object(request.body.data)
        bodies.refuse(document, resource.read_only)
        body = bodies.validate(resource.replace_body, document)
        left_alone = set(resource.kept) - body.given()
        values = {name: value for name, value in body.members().items() if name not in left_alone}
        return self._change(request, call, "updated", lambda _: values)

    def patch(self, request: Any, call: Call) -> Reply:
        """PATCH (RFC 6902) on the document. A member that has no value counts as null or empty."""
        model = self._resource.patch_body
        operations = json_patch.parse(request.body.data)
        json_patch.check_members(json_patch.touched_members(operations), model.model_fields)
        lazy = self._resource.lazy[0] if self._resource.lazy else ""
        needs_lazy = lazy in json_patch.mentioned_members(operations)

        def revise(row: Row[Any]) -> dict[str, Any]:
            document = model.blank() | orjson.loads(row.document)
            if needs_lazy:
                document[lazy] = orjson.loads(row.lazy)
            else:
                document.pop(lazy, None)
            values = bodies.validate(model, json_patch.apply(document, operations)).members()
            if not needs_lazy:
                values.pop(lazy, None)
            return values

        return self._change(request, call, "patched", revise)

    def delete(self, request: Any, call: Call) -> Reply:
        """Soft delete."""

        def work(connection: Connection) -> None:
            row = self._lock(connection, request, call)
            self._resource.rules.guard(row)
            now = rfc3339.now()
            summary = self._resource.rules.deleted(connection, row.id, now)
            connection.execute(
                self._statements.update, {"row_id": row.id, "deleted_at": now, "version": row.version + 1}
            )
            self._record(connection, call, request, row, "deleted", summary, now)

        self._database.write(work)
        return Reply()

    def _change(
        self,
        request: Any,
        call: Call,
        change_type: audit.ChangeType,
        revise: Callable[[Row[Any]], dict[str, Any]],
    ) -> Reply:
        if_match = request.if_match if request.HasField("if_match") else None
        expected = preconditions.expected_version(if_match, required=self._require_if_match)
        rules = self._resource.rules

        def work(connection: Connection) -> tuple[bytes, int]:
            row = self._lock(connection, request, call)
            rules.guard(row)
            preconditions.check(expected, row.version)
            values = revise(row)
            before = orjson.loads(row.document)
            rules.check(connection, request.threat_model_id, before, values)
            now = rfc3339.now()
            columns = rules.store(connection, row, values)
            body = self._statements.update_returning.scalar(
                connection, columns | {"row_id": row.id, "version": row.version + 1, "modified_at": now}, row.id
            )
            summary = audit.summarize(before, {name: values[name] for name in values if name in self._resource.members})
            self._record(connection, call, request, row, change_type, summary, now)
            return body.encode(), row.version + 1

        body, version = self._database.write(work)
        return Reply(body, headers=[preconditions.entity_tag(version)])

    def _lock(self, connection: Connection, request: Any, call: Call) -> Row[Any]:
        """The live row, locked, if the caller's role is enough. Raises ApiError 403 or 404."""
        parameters = self._scope(request, call)
        row = connection.execute(self._statements.lock, parameters).one_or_none()
        if row is not None and row.version != row.read_version:
            # The lock was waited for: the row is the present one, what was read beside it is older.
            row = connection.execute(self._statements.lock, parameters).one_or_none()
        if row is None:
            parent = connection.execute(self._statements.parent, parameters).one_or_none()
            if parent is None:
                raise access.no_threat_model()
            access.require(parent.role, call.gate)
            raise self._missing()
        access.require(row.role, call.gate)
        return row

    def _record(
        self,
        connection: Connection,
        call: Call,
        request: Any,
        row: Row[Any],
        change_type: audit.ChangeType,
        summary: str | None,
        now: datetime,
    ) -> None:
        audit.record(
            connection,
            call.caller,
            audit.Change(
                change_type,
                self._resource.kind,
                request.threat_model_id,
                row.id,
                row.version + 1,
                self._whole(row.document, row.lazy),
                summary,
                now,
            ),
        )

    def _whole(self, document: str, lazy: str) -> bytes:
        if self._resource.lazy:
            document = f'{document[:-1]},"{self._resource.lazy[0]}":{lazy}}}'
        return document.encode()

    def _scope(self, request: Any, call: Call) -> dict[str, Any]:
        return {
            "threat_model_id": request.threat_model_id,
            "row_id": getattr(request, self._resource.id_field, None),
            access.PRINCIPAL_IDS: access.principal_ids(call.caller),
        }

    def _missing(self) -> ApiError:
        return not_found(f"There is no such {self._resource.kind} in this threat model.")


class _Statements:
    """The SQL of one sub-resource, built once."""

    def __init__(self, resource: SubResource) -> None:
        table = resource.table
        role = access.role_on(threat_models.c.id).label("role")
        live_row = (table.c.id == _ROW_ID, table.c.threat_model_id == threat_models.c.id, table.c.deleted_at.is_(None))
        self._resource = resource
        self._role = role
        self.parent = select(role).where(*_LIVE_THREAT_MODEL)
        self.lock_parent = self.parent.with_for_update(read=True, of=threat_models)
        self.get = (
            select(role, table.c.version, resource.document.label("document"))
            .select_from(threat_models.outerjoin(table, and_(*live_row)))
            .where(*_LIVE_THREAT_MODEL)
        )
        self.insert = WriteReturning(table.insert(), resource.own_document, table.c.id)
        self.update = table.update().where(table.c.id == _ROW_ID)
        self.update_returning = WriteReturning(self.update, resource.document, table.c.id)
        read = table.alias("read")
        self.lock = (
            select(
                table.c.id,
                role,
                table.c.version,
                select(read.c.version)
                .where(read.c.id == table.c.id)
                .correlate(table)
                .scalar_subquery()
                .label("read_version"),
                resource.own_document.label("document"),
                (resource.lazy[1] if resource.lazy else null()).label("lazy"),
                *resource.locked,
            )
            .select_from(threat_models.join(table, and_(*live_row)))
            .where(*_LIVE_THREAT_MODEL)
            .with_for_update(of=table, key_share=True)
        )
        self.page = lru_cache(maxsize=256)(self._page)

    def _page(self, filter_names: tuple[str, ...], sort: str, *, include_deleted: bool) -> Select[int, int, str]:
        resource = self._resource
        table = resource.table
        matching = [
            table.c.threat_model_id == threat_models.c.id,
            *filters.predicates(resource.filters, filter_names),
        ]
        if not include_deleted:
            matching.append(table.c.deleted_at.is_(None))
        order = filters.sort_order(sort, resource.sort_keys, resource.default_order, table.c.id)
        items = (
            select(resource.list_item)
            .where(*matching)
            .order_by(*order)
            .limit(bindparam("limit", type_=Integer()))
            .offset(bindparam("offset", type_=Integer()))
            .correlate(threat_models)
        )
        total = select(func.count()).select_from(table).where(*matching).correlate(threat_models).scalar_subquery()
        page = select(self._role, total.label("total"), json_array(items).label("page"))
        return page.where(*_LIVE_THREAT_MODEL)
