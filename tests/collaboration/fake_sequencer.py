"""tmi.threat_model.v1.Sequencer in memory, for tests of its clients."""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import orjson

from services.shared import rpc
from services.shared.errors import forbidden, not_found, unavailable
from services.shared.principal import Call, user_object
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1 import sequencer_pb2 as messages


@dataclass
class Diagram:
    threat_model_id: str
    diagram_id: str
    vector: int = 3
    cells: dict[str, Any] = field(default_factory=dict)
    log: dict[int, messages.CommittedOperation] = field(default_factory=dict)
    by_id: dict[str, messages.CommittedOperation] = field(default_factory=dict)
    session: messages.DiagramSession | None = None
    roles: dict[str, "messages.Role.ValueType"] = field(default_factory=dict)


def _now() -> int:
    return int(time.time() * 1000)


class FakeSequencer:
    """Roles are given by user id in `diagram.roles`. `is_down` makes every call UNAVAILABLE."""

    def __init__(self) -> None:
        self.diagrams: dict[str, Diagram] = {}
        self.is_down = False
        self.request_ids: list[str] = []
        self.group_sizes: list[int] = []
        self.poisoned: set[str] = set()
        self.cannot_read = False

    def add_diagram(self, **roles: "messages.Role.ValueType") -> Diagram:
        diagram = Diagram(str(uuid4()), str(uuid4()))
        diagram.roles = {f"id-{name}": role for name, role in roles.items()}
        self.diagrams[diagram.diagram_id] = diagram
        return diagram

    def add_to(self, server: grpc.aio.Server) -> None:
        service = messages.DESCRIPTOR.services_by_name["Sequencer"]
        handlers: dict[str, Any] = {
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
        rpc.add_async_service(server, service, handlers)

    def _diagram(self, diagram_id: str) -> Diagram:
        if self.is_down:
            raise unavailable("down")
        if diagram_id not in self.diagrams:
            raise not_found("The diagram does not exist.")
        return self.diagrams[diagram_id]

    def _readable(
        self, threat_model_id: str, diagram_id: str, principal: Principal, *, needs_role: bool = True
    ) -> Diagram:
        diagram = self._diagram(diagram_id)
        if diagram.threat_model_id != threat_model_id:
            raise not_found("The threat model does not exist.")
        if needs_role and not diagram.roles.get(principal.user_id):
            raise forbidden()
        return diagram

    async def open_session(self, request: messages.OpenSessionRequest, _: Call) -> messages.OpenSessionResponse:
        diagram = self._readable(request.threat_model_id, request.diagram_id, request.host)
        created = diagram.session is None
        if diagram.session is None:
            diagram.session = messages.DiagramSession(
                session_id=str(uuid4()),
                threat_model_id=diagram.threat_model_id,
                threat_model_name="Shop",
                diagram_id=diagram.diagram_id,
                diagram_name="Overview",
                host=request.host,
                start_vector=diagram.vector,
                started_at=_now(),
                last_activity_at=_now(),
            )
        return messages.OpenSessionResponse(session=_as_seen_by(request.host, diagram), created=created)

    async def get_session(self, request: messages.GetSessionRequest, call: Call) -> messages.DiagramSession:
        self.request_ids.append(call.request_id)
        needs_role = not (request.administrators_may and request.principal.is_administrator)
        diagram = self._readable(request.threat_model_id, request.diagram_id, request.principal, needs_role=needs_role)
        if diagram.session is None:
            if request.may_be_absent:
                return messages.DiagramSession(
                    threat_model_id=request.threat_model_id,
                    diagram_id=request.diagram_id,
                    role=diagram.roles[request.principal.user_id],
                )
            raise not_found("The diagram has no session.")
        session = messages.DiagramSession()
        session.CopyFrom(diagram.session)
        session.role = diagram.roles.get(request.principal.user_id, messages.ROLE_UNSPECIFIED)
        return session

    async def list_sessions(self, request: messages.ListSessionsRequest, _: Call) -> messages.ListSessionsResponse:
        if self.is_down:
            raise unavailable("down")
        asks_for_all = not request.HasField("principal")
        return messages.ListSessionsResponse(
            sessions=[
                diagram.session
                for diagram in self.diagrams.values()
                if diagram.session
                and (asks_for_all or diagram.roles.get(request.principal.user_id))
                and request.session_id in ("", diagram.session.session_id)
                and not (request.HasField("idle_since") and diagram.session.last_activity_at > request.idle_since)
            ]
        )

    async def close_session(self, request: messages.CloseSessionRequest, _: Call) -> messages.CloseSessionResponse:
        diagram = self._diagram(request.diagram_id)
        session = diagram.session
        if session is None or session.session_id != request.session_id:
            return messages.CloseSessionResponse(closed=False)
        if request.HasField("idle_since") and session.last_activity_at > request.idle_since:
            return messages.CloseSessionResponse(closed=False)
        diagram.session = None
        return messages.CloseSessionResponse(closed=True)

    async def touch_sessions(self, request: messages.TouchSessionsRequest, _: Call) -> messages.TouchSessionsResponse:
        if self.is_down:
            raise unavailable("down")
        touched = [
            diagram.session
            for diagram in self.diagrams.values()
            if diagram.session and diagram.session.session_id in request.session_ids
        ]
        for session in touched:
            session.last_activity_at = _now()
        return messages.TouchSessionsResponse(session_ids=[session.session_id for session in touched])

    async def commit_operations(
        self, request: messages.CommitOperationsRequest, _: Call
    ) -> messages.CommitOperationsResponse:
        diagram = self._diagram(request.diagram_id)
        self.group_sizes.append(len(request.operations))
        if any(operation.operation_id in self.poisoned for operation in request.operations):
            raise RuntimeError("a defect")
        if diagram.session is None or diagram.session.session_id != request.session_id:
            return messages.CommitOperationsResponse(session_ended=True, update_vector=diagram.vector)
        diagram.session.last_activity_at = _now()
        results = [self._commit(diagram, operation) for operation in request.operations]
        return messages.CommitOperationsResponse(results=results, update_vector=diagram.vector)

    def _commit(self, diagram: Diagram, request: messages.OperationRequest) -> messages.OperationResult:
        if known := diagram.by_id.get(request.operation_id):
            return messages.OperationResult(outcome=messages.OUTCOME_REPEATED, committed=known)
        if diagram.roles.get(request.initiator.user_id, 0) < messages.ROLE_WRITER:
            return messages.OperationResult(outcome=messages.OUTCOME_DENIED)
        effective = []
        cells = dict(diagram.cells)
        for change in orjson.loads(request.operation)["cells"]:
            cell_id = change["id"]
            if change["operation"] == "remove":
                cells.pop(cell_id, None)
                effective.append({"id": cell_id, "operation": "remove"})
            elif change["operation"] == "update" and cell_id not in cells:
                return messages.OperationResult(
                    outcome=messages.OUTCOME_REJECTED,
                    reason="conflict_detected",
                    message="There is no such cell.",
                    affected_cells=[cell_id],
                    requires_resync=True,
                )
            else:
                cells[cell_id] = {**cells.get(cell_id, {}), **change["data"], "id": cell_id}
                effective.append({"id": cell_id, "operation": change["operation"], "data": cells[cell_id]})
        diagram.cells = cells
        diagram.vector += 1
        committed = messages.CommittedOperation(
            update_vector=diagram.vector,
            operation_id=request.operation_id,
            socket_id=request.socket_id,
            initiating_user=orjson.dumps(user_object(request.initiator)),
            operation=orjson.dumps({"type": "patch", "cells": effective}),
        )
        diagram.log[diagram.vector] = diagram.by_id[request.operation_id] = committed
        return messages.OperationResult(outcome=messages.OUTCOME_ACCEPTED, committed=committed)

    async def read_operations(
        self, request: messages.ReadOperationsRequest, _: Call
    ) -> messages.ReadOperationsResponse:
        diagram = self._diagram(request.diagram_id)
        return messages.ReadOperationsResponse(
            operations=[entry for vector, entry in sorted(diagram.log.items()) if vector > request.after_vector][
                : request.limit or None
            ],
            update_vector=diagram.vector,
            complete=True,
            session_id=diagram.session.session_id if diagram.session else "",
        )

    async def get_diagram_state(self, request: messages.GetDiagramStateRequest, _: Call) -> messages.DiagramState:
        if self.cannot_read:
            raise RuntimeError("a defect")
        diagram = self._diagram(request.diagram_id)
        return messages.DiagramState(
            diagram_id=diagram.diagram_id,
            threat_model_id=diagram.threat_model_id,
            session_id=diagram.session.session_id if diagram.session else "",
            start_vector=diagram.session.start_vector if diagram.session else 0,
            update_vector=diagram.vector,
            cells=orjson.dumps(list(diagram.cells.values())),
        )

    async def check_access(self, request: messages.CheckAccessRequest, _: Call) -> messages.CheckAccessResponse:
        diagram = self._diagram(request.diagram_id)
        roles = [diagram.roles.get(principal.user_id, messages.ROLE_UNSPECIFIED) for principal in request.principals]
        return messages.CheckAccessResponse(roles=roles)


def _as_seen_by(principal: Principal, diagram: Diagram) -> messages.DiagramSession:
    """The session of the diagram, with the role of who asks."""
    seen = messages.DiagramSession(role=diagram.roles[principal.user_id])
    if diagram.session is not None:
        seen.MergeFrom(diagram.session)
    return seen
