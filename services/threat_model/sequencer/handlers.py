"""The Sequencer service: the diagram row as the sequencer of everything that changes a diagram."""

from sqlalchemy import Connection, bindparam, select

from services.shared.database import Database
from services.shared.errors import invalid_id, not_found
from services.shared.principal import Call
from services.shared.rpc import Handler
from services.shared.sql_dialect import JsonVerbatim, UuidList, is_one_of, json_array
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.cells.normalisation import canonical_id
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.resources.cascades import References
from services.threat_model.sequencer import operation_log, sessions
from services.threat_model.sequencer.commit import access_ids, commit_operations, roles_of
from tmi.threat_model.v1 import sequencer_pb2 as messages

_of_live_diagram = (
    (diagrams.c.id == bindparam("diagram_id")) & diagrams.c.deleted_at.is_(None) & threat_models.c.deleted_at.is_(None)
)
# One statement, so that the vector and the cells are of one moment.
_STATE = (
    select(
        diagrams.c.threat_model_id,
        diagrams.c.session_id,
        diagrams.c.session_start_vector,
        diagrams.c.update_vector,
        JsonVerbatim(diagrams.c.color_palette).label("color_palette"),
        json_array(
            select(diagram_cells.c.data)
            .where(diagram_cells.c.diagram_id == bindparam("diagram_id"))
            .order_by(diagram_cells.c.position, diagram_cells.c.cell_id)
        ).label("cells"),
    )
    .join_from(diagrams, threat_models)
    .where(_of_live_diagram)
)
_ACCESS = (
    select(threat_model_access.c.principal_id, threat_model_access.c.role)
    .select_from(
        diagrams.join(threat_models).outerjoin(
            threat_model_access,
            (threat_model_access.c.threat_model_id == threat_models.c.id)
            & is_one_of(threat_model_access.c.principal_id, bindparam("principal_ids", type_=UuidList())),
        )
    )
    .where(_of_live_diagram)
)


class Sequencer:
    """Handlers of tmi.threat_model.v1.Sequencer."""

    def __init__(self, database: Database, references: References) -> None:
        """references: to cells."""
        self._database = database
        self._references = references

    def handlers(self) -> dict[str, Handler]:
        """Handlers by RPC name."""
        return {
            "OpenSession": self.open_session,
            "GetSession": self.get_session,
            "ListSessions": self.list_sessions,
            "CloseSession": self.close_session,
            "TouchSessions": self.touch_sessions,
            "CommitOperations": self.commit_operations,
            "ReadOperations": self.read_operations,
            "GetDiagramState": self.get_diagram_state,
            "CheckAccess": self.check_access,
        }

    def open_session(self, request: messages.OpenSessionRequest, _call: Call) -> messages.OpenSessionResponse:
        """Gets or creates the diagram's session. Raises ApiError 400, 403, 404."""
        threat_model_id, diagram_id = _id(request.threat_model_id), _id(request.diagram_id)
        session, created = self._database.write(
            lambda connection: sessions.open_session(connection, threat_model_id, diagram_id, request.host)
        )
        return messages.OpenSessionResponse(session=session, created=created)

    def get_session(self, request: messages.GetSessionRequest, _call: Call) -> messages.DiagramSession:
        """Finds the diagram's session. Raises ApiError 400, 403, 404."""
        threat_model_id, diagram_id = _id(request.threat_model_id), _id(request.diagram_id)
        return self._database.read(
            lambda connection: sessions.get_session(
                connection,
                threat_model_id,
                diagram_id,
                request.principal,
                may_be_absent=request.may_be_absent,
                administrators_may=request.administrators_may,
            )
        )

    def list_sessions(self, request: messages.ListSessionsRequest, _call: Call) -> messages.ListSessionsResponse:
        """Lists the sessions that the principal may read. Raises ApiError 400."""
        principal = request.principal if request.HasField("principal") else None
        session_id = _id(request.session_id) if request.session_id else None
        idle_since = request.idle_since if request.HasField("idle_since") else None
        return messages.ListSessionsResponse(
            sessions=self._database.read(
                lambda connection: sessions.list_sessions(
                    connection, principal, session_id=session_id, idle_since=idle_since
                )
            )
        )

    def close_session(self, request: messages.CloseSessionRequest, _call: Call) -> messages.CloseSessionResponse:
        """Ends the session if it is still the one named. Raises ApiError 400."""
        diagram_id, session_id = _id(request.diagram_id), _id(request.session_id)
        idle_since = request.idle_since if request.HasField("idle_since") else None
        return messages.CloseSessionResponse(
            closed=self._database.write(
                lambda connection: sessions.close_session(connection, diagram_id, session_id, idle_since)
            )
        )

    def touch_sessions(self, request: messages.TouchSessionsRequest, _call: Call) -> messages.TouchSessionsResponse:
        """Notes activity of sessions. Raises ApiError 400."""
        session_ids = [_id(session_id) for session_id in request.session_ids]
        return messages.TouchSessionsResponse(
            session_ids=self._database.write(lambda connection: sessions.touch_sessions(connection, session_ids))
        )

    def commit_operations(
        self, request: messages.CommitOperationsRequest, _call: Call
    ) -> messages.CommitOperationsResponse:
        """Commits a group of operations. Raises ApiError 400."""
        diagram_id, session_id = _id(request.diagram_id), _id(request.session_id)
        return self._database.write(
            lambda connection: commit_operations(
                connection, diagram_id, session_id, request.operations, self._references
            )
        )

    def read_operations(self, request: messages.ReadOperationsRequest, _call: Call) -> messages.ReadOperationsResponse:
        """Reads the log after a vector. Raises ApiError 400, 404."""
        diagram_id = _id(request.diagram_id)
        return self._database.read(
            lambda connection: operation_log.read(connection, diagram_id, request.after_vector, request.limit)
        )

    def get_diagram_state(self, request: messages.GetDiagramStateRequest, _call: Call) -> messages.DiagramState:
        """Reads the whole diagram as of one moment. Raises ApiError 400, 404."""
        diagram_id = _id(request.diagram_id)
        row = self._database.read(
            lambda connection: connection.execute(_STATE, {"diagram_id": diagram_id}).one_or_none()
        )
        if row is None:
            raise not_found("The diagram does not exist.")
        return messages.DiagramState(
            diagram_id=diagram_id,
            threat_model_id=row.threat_model_id,
            session_id=row.session_id or "",
            start_vector=row.session_start_vector or 0,
            update_vector=row.update_vector,
            cells=row.cells.encode(),
            color_palette=(row.color_palette or "").encode(),
        )

    def check_access(self, request: messages.CheckAccessRequest, _call: Call) -> messages.CheckAccessResponse:
        """Reads the present roles of the principals. Raises ApiError 400, 404."""
        parameters = {"diagram_id": _id(request.diagram_id), "principal_ids": access_ids(request.principals)}

        def access(connection: Connection) -> dict[str, int]:
            rows = connection.execute(_ACCESS, parameters).all()
            if not rows:
                raise not_found("The diagram does not exist.")
            return {row.principal_id: row.role for row in rows if row.role is not None}

        roles = roles_of(self._database.read(access), request.principals)
        return messages.CheckAccessResponse(roles=[messages.Role.ValueType(role) for role in roles])


def _id(text: str) -> str:
    canonical = canonical_id(text)
    if canonical is None:
        raise invalid_id("An id is not a UUID.")
    return canonical
