"""The JSON text messages of a collaboration socket: reading the client's, writing the server's.

Unknown keys of client messages are tolerated. Text that is no JSON object, or whose body cannot be
understood, is ignored without an answer, because the web client ends its session on most errors.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import NAMESPACE_OID, uuid4, uuid5

import orjson

from services.collaboration.participants import Participant
from services.shared import rfc3339
from services.shared.principal import user_object
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import CommittedOperation, DiagramState

ECHOED_ID_LIMIT = 128

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
"""The text form of RFC 9562 section 4, in either case. ASCII digits only."""

SERVER_ONLY_TYPES = frozenset(
    {
        "authorization_denied",
        "diagram_operation_event",
        "diagram_state",
        "diagram_state_sync",
        "error",
        "history_operation",
        "operation_rejected",
        "participants_update",
        "presenter_denied_event",
        "presenter_request_event",
        "resync_response",
        "state_correction",
        "sync_status_response",
    }
)


@dataclass(frozen=True, slots=True)
class OperationMessage:
    """A well-formed diagram_operation_request.

    operation: its `operation` object as JSON. base_vector: None when the client named none.
    """

    operation_id: str
    operation: bytes
    base_vector: int | None


@dataclass(frozen=True, slots=True)
class MalformedOperation:
    """A diagram_operation_request that no diagram could accept. reason: AsyncAPI rejection reason."""

    operation_id: str
    reason: str
    message: str
    details: str = ""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """sync_request (with the client's vector, if it named one) or sync_status_request."""

    update_vector: int | None
    status_only: bool


@dataclass(frozen=True, slots=True)
class VolatileMessage:
    """A presenter's cursor or selection; text: the message as relayed, without unknown keys."""

    kind: Literal["presenter_cursor", "presenter_selection"]
    text: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is not about the diagram. user: (provider, provider_id) of the User that it names, if any."""

    kind: Literal[
        "undo_request",
        "redo_request",
        "presenter_request",
        "change_presenter_request",
        "presenter_denied_request",
        "remove_participant_request",
    ]
    user: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that is answered with an `error` of this code."""

    code: Literal["invalid_message_type", "unsupported_message_type", "validation_error"]
    message: str


ClientMessage = OperationMessage | MalformedOperation | SyncRequest | VolatileMessage | Request | Refused


def decode(text: bytes) -> ClientMessage | None:
    """The message that a client's text stands for; None for what is ignored without an answer."""
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    kind = body.get("message_type")
    match kind:
        case "diagram_operation_request":
            return _operation(body)
        case "sync_request":
            return SyncRequest(_vector(body.get("update_vector")), status_only=False)
        case "sync_status_request":
            return SyncRequest(None, status_only=True)
        case "presenter_cursor":
            return _cursor(body.get("cursor_position"))
        case "presenter_selection":
            return _selection(body.get("selected_cells"))
        case (
            "undo_request"
            | "redo_request"
            | "presenter_request"
            | "change_presenter_request"
            | "presenter_denied_request"
            | "remove_participant_request"
        ):
            return Request(kind, _user(body.get("denied_user")))
        case _ if isinstance(kind, str) and kind in SERVER_ONLY_TYPES:
            return Refused("invalid_message_type", "Only the server sends messages of this type.")
        case _:
            return Refused("unsupported_message_type", "The server does not know this message type.")


def refused(text: bytes, reason: str) -> MalformedOperation | Refused | None:
    """What to answer to a message that the gateway refuses; text: its message_type and operation_id, as far as known.

    The web client merely shows a validation_error.
    """
    body = orjson.loads(text) if text else {}
    match body.get("message_type"):
        case "diagram_operation_request":
            return MalformedOperation(body.get("operation_id", ""), "validation_failed", reason)
        case str():
            return Refused("validation_error", reason)
        case _:
            return None


def _operation(body: dict[str, Any]) -> OperationMessage | MalformedOperation:
    operation_id = body.get("operation_id")
    echoed = operation_id[:ECHOED_ID_LIMIT] if isinstance(operation_id, str) else ""
    if not _is_uuid(operation_id):
        return MalformedOperation(echoed, "validation_failed", "operation_id must be a UUID.")
    operation = body.get("operation")
    if not isinstance(operation, dict):
        return MalformedOperation(echoed, "validation_failed", "operation must be an object.")
    if operation.get("type") != "patch":
        return MalformedOperation(
            echoed, "invalid_operation_type", "The operation type is not known.", 'The only operation type is "patch".'
        )
    cells = operation.get("cells")
    if cells is None or cells == []:
        return MalformedOperation(echoed, "empty_operation", "The operation changes no cells.")
    if not isinstance(cells, list):
        return MalformedOperation(echoed, "validation_failed", "operation.cells must be an array.")
    try:
        return OperationMessage(echoed, orjson.dumps(operation), _vector(body.get("base_vector")))
    except orjson.JSONEncodeError:
        return MalformedOperation(echoed, "validation_failed", "The operation is nested too deeply.")


def _vector(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _user(value: object) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return None
    provider, provider_id = value.get("provider"), value.get("provider_id")
    return (provider, provider_id) if isinstance(provider, str) and isinstance(provider_id, str) else None


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cursor(position: object) -> VolatileMessage | None:
    if not isinstance(position, dict) or not _is_number(position.get("x")) or not _is_number(position.get("y")):
        return None
    cursor = {"x": position["x"], "y": position["y"]}
    text = orjson.dumps({"message_type": "presenter_cursor", "cursor_position": cursor})
    return VolatileMessage("presenter_cursor", text)


def _selection(cells: object) -> VolatileMessage | None:
    """A missing array means an empty selection: the web client refuses null."""
    selected = [] if cells is None else cells
    if not isinstance(selected, list) or not all(isinstance(cell, str) for cell in selected):
        return None
    text = orjson.dumps({"message_type": "presenter_selection", "selected_cells": selected})
    return VolatileMessage("presenter_selection", text)


def _timestamp(now: float) -> str:
    return rfc3339.to_text(datetime.fromtimestamp(now, UTC))


def correction(vector: int, start_vector: int, author: bytes, operation: bytes) -> bytes:
    """A diagram_operation_event that repeats cells to one client; author: User object as JSON.

    Its operation_id is a new UUID of version 5, so that logs tell it from clients' operations.
    """
    operation_id = str(uuid5(NAMESPACE_OID, uuid4().hex))
    event = CommittedOperation(
        update_vector=vector, operation_id=operation_id, initiating_user=author, operation=operation
    )
    return operation_event(event, start_vector)


def operation_event(operation: CommittedOperation, start_vector: int) -> bytes:
    """diagram_operation_event. sequence_number counts from the vector at the session's start."""
    return b"".join(
        (
            b'{"message_type":"diagram_operation_event","initiating_user":',
            operation.initiating_user,
            b',"operation_id":',
            orjson.dumps(operation.operation_id),
            b',"sequence_number":%d,"update_vector":%d,"operation":'
            % (operation.update_vector - start_vector, operation.update_vector),
            operation.operation,
            b"}",
        )
    )


def diagram_state(state: DiagramState) -> bytes:
    """diagram_state with every cell, in order."""
    parts = [
        b'{"message_type":"diagram_state","diagram_id":',
        orjson.dumps(state.diagram_id),
        b',"update_vector":%d,"cells":' % state.update_vector,
        state.cells or b"[]",
    ]
    if state.color_palette:
        parts += [b',"color_palette":', state.color_palette]
    return b"".join((*parts, b"}"))


def participants_update(participants: Iterable[Participant], host: Principal, presenter: Principal | None) -> bytes:
    """participants_update after a join, leave or change of role.

    `initiating_user` is null then: the web client tells a join from a removal by it.
    """
    return orjson.dumps(
        {
            "message_type": "participants_update",
            "participants": [participant.to_object() for participant in participants],
            "host": user_object(host),
            "current_presenter": user_object(presenter) if presenter is not None else None,
            "initiating_user": None,
        }
    )


def operation_rejected(
    operation_id: str,
    update_vector: int,
    reason: str,
    message: str,
    now: float,
    *,
    details: str = "",
    affected_cells: Iterable[str] = (),
    requires_resync: bool = False,
) -> bytes:
    """operation_rejected; update_vector: the diagram's, as this socket knows it."""
    body: dict[str, Any] = {
        "message_type": "operation_rejected",
        "operation_id": operation_id,
        "update_vector": update_vector,
        "reason": reason,
        "message": message,
        "requires_resync": requires_resync,
        "timestamp": _timestamp(now),
    }
    if details:
        body["details"] = details
    if cells := list(affected_cells):
        body["affected_cells"] = cells
    return orjson.dumps(body)


def authorization_denied(operation_id: str) -> bytes:
    """authorization_denied for a user who may only read."""
    return orjson.dumps(
        {
            "message_type": "authorization_denied",
            "original_operation_id": operation_id,
            "reason": "insufficient_permissions",
        }
    )


def sync_status_response(update_vector: int) -> bytes:
    """sync_status_response; only ever sent on request."""
    return b'{"message_type":"sync_status_response","update_vector":%d}' % update_vector


def presenter_request_event(user: Principal) -> bytes:
    """presenter_request_event to the host; user: who asks."""
    return orjson.dumps({"message_type": "presenter_request_event", "requesting_user": user_object(user)})


def presenter_denied_event(user: Principal) -> bytes:
    """presenter_denied_event to the user whose request was denied."""
    return orjson.dumps({"message_type": "presenter_denied_event", "denied_user": user_object(user)})


def nothing_in_history(direction: Literal["undo", "redo"]) -> bytes:
    """history_operation for an undo or redo that has nothing to act on. Web clients do not show it."""
    return orjson.dumps(
        {
            "message_type": "history_operation",
            "operation_type": direction,
            "message": f"no_operations_to_{direction}",
        }
    )


def error(code: str, message: str, now: float) -> bytes:
    """error. The web client merely shows invalid_participant and validation_error; any other ends its session."""
    return orjson.dumps({"message_type": "error", "error": code, "message": message, "timestamp": _timestamp(now)})
