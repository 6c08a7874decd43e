"""List and get: one statement each, which carries the role check."""

from typing import Any

from google.protobuf.message import Message

from services.shared.access import OWNER
from services.shared.database import Database
from services.shared.errors import forbidden
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.threat_model.resources import bounds, filters, preconditions
from services.threat_model.resources.requests import PageRequest, row_id_of, target_of, text
from services.threat_model.resources.rows import Rows


class Reading:
    """Handlers that read rows of one resource."""

    def __init__(self, rows: Rows, database: Database) -> None:
        self._rows = rows
        self._resource = rows.resource
        self._database = database

    def list(self, request: Any, call: Call) -> Reply:
        """A page. Deleted rows are for owners of their root and for administrators, deleted roots for the latter."""
        resource = self._resource
        page: PageRequest = request
        include_deleted = bool(getattr(request, "include_deleted", False))
        if resource.is_root and include_deleted and not call.caller.is_administrator:
            raise forbidden("Only an administrator may list what was deleted.")
        values = filters.present(resource.filters, request)
        statement = self._rows.statements.page(
            tuple(sorted(values)),
            filters.sort_of(text(request, "sort"), resource.sort_keys),
            include_deleted=include_deleted,
        )
        parameters = values | target_of(resource, request, call).parameters()
        parameters |= {"limit": page.limit, "offset": page.offset}
        row = self._database.read(lambda connection: connection.execute(statement, parameters).one_or_none())
        if row is None:
            raise resource.scope.missing()
        if not resource.is_root:
            call.require(row.role)
            if include_deleted and row.role != OWNER and not call.caller.is_administrator:
                raise forbidden("Only an owner or an administrator may list what was deleted.")
        bounds.require_deliverable(row.page)
        return Reply(
            b'{"%b":%b,"total":%d,"limit":%d,"offset":%d}'
            % (resource.plural.encode(), row.page.encode(), row.total, page.limit, page.offset)
        )

    def get(self, request: Message, call: Call) -> Reply:
        """One row."""
        parameters = target_of(self._resource, request, call).parameters([row_id_of(self._resource, request)])
        statement = self._rows.statements.get
        row = self._database.read(lambda connection: connection.execute(statement, parameters).one_or_none())
        if row is None:
            raise self._resource.scope.missing()
        call.require(row.role)
        if row.version is None:
            raise self._resource.missing()
        bounds.require_deliverable(row.answer)
        return Reply(row.answer.encode(), headers=[preconditions.entity_tag(row.version)])
