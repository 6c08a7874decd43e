"""Taking a deletion back."""

from google.protobuf.message import Message
from sqlalchemy import Connection

from services.shared import rfc3339
from services.shared.database import Database
from services.shared.errors import conflict
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.threat_model.resources import preconditions
from services.threat_model.resources.owners import Owners


class Restoring:
    """Handlers of the RPC that restores a row of whichever resource its request names."""

    def __init__(self, owners: Owners, database: Database) -> None:
        self._owners = owners
        self._database = database

    def restore(self, request: Message, call: Call) -> Reply:
        """The row, live again, with what was deleted at the same instant. Raises ApiError 409 when it is live."""
        rows, target, row_id = self._owners.of(request, call)

        def work(connection: Connection) -> tuple[str, int]:
            row = rows.lock_deleted(connection, target, row_id)
            if row.deleted_at is None:
                raise conflict(f"The {rows.resource.kind.replace('_', ' ')} is not deleted.")
            return rows.restore(connection, target, row, rfc3339.now()), row.version + 1

        document, version = self._database.write(work)
        return Reply(document.encode(), headers=[preconditions.entity_tag(version)])
