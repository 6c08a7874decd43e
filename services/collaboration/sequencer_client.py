"""Calls to the sequencer of the threat-model service, with deadlines and ApiError as the only error."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from services.shared import log
from services.shared.errors import ApiError, from_rpc_error
from services.shared.principal import REQUEST_ID_KEY
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1 import sequencer_pb2 as messages
from tmi.threat_model.v1.sequencer_pb2_grpc import SequencerStub

CALL_SECONDS = 5.0
COMMIT_SECONDS = 15.0
READ_LIMITS = (1000, 30, 1)
"""How many operations are asked for at once; fewer when they are too large for one message."""

Answer = TypeVar("Answer")


class SequencerClient:
    """The typed calls this service makes. All raise ApiError: 503 may be tried again, 413 is no use to."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = SequencerStub(channel)

    async def open_session(
        self, threat_model_id: str, diagram_id: str, host: Principal
    ) -> messages.OpenSessionResponse:
        """The diagram's session, created when there is none."""
        request = messages.OpenSessionRequest(threat_model_id=threat_model_id, diagram_id=diagram_id, host=host)
        return await _call(self._stub.OpenSession, request, CALL_SECONDS)

    async def get_session(
        self, threat_model_id: str, diagram_id: str, principal: Principal, *, to_end_it: bool = False
    ) -> messages.DiagramSession:
        """The diagram's session. ApiError 403 when the principal may not read.

        to_end_it: administrators need no role. When there is none: ApiError 404, or without a session_id
        when it is to be ended.
        """
        request = messages.GetSessionRequest(
            threat_model_id=threat_model_id,
            diagram_id=diagram_id,
            principal=principal,
            may_be_absent=to_end_it,
            administrators_may=to_end_it,
        )
        return await _call(self._stub.GetSession, request, CALL_SECONDS)

    async def list_sessions(self, principal: Principal, session_id: str = "") -> Sequence[messages.DiagramSession]:
        """Sessions the principal may read, or the one of them that is named."""
        request = messages.ListSessionsRequest(principal=principal, session_id=session_id)
        return (await _call(self._stub.ListSessions, request, CALL_SECONDS)).sessions

    async def idle_sessions(self, since: float) -> Sequence[messages.DiagramSession]:
        """Sessions in which nothing has happened since (Unix seconds)."""
        request = messages.ListSessionsRequest(idle_since=int(since * 1000))
        return (await _call(self._stub.ListSessions, request, CALL_SECONDS)).sessions

    async def close_session(self, diagram_id: str, session_id: str, idle_since: float | None = None) -> bool:
        """Ends a session; idle_since (Unix seconds): only if nothing happened in it since. True when it ended."""
        request = messages.CloseSessionRequest(
            diagram_id=diagram_id,
            session_id=session_id,
            idle_since=None if idle_since is None else int(idle_since * 1000),
        )
        return (await _call(self._stub.CloseSession, request, CALL_SECONDS)).closed

    async def touch_sessions(self, session_ids: Iterable[str]) -> set[str]:
        """Notes that sessions have participants; answers those that are still open."""
        request = messages.TouchSessionsRequest(session_ids=session_ids)
        return set((await _call(self._stub.TouchSessions, request, CALL_SECONDS)).session_ids)

    async def commit_operations(
        self, diagram_id: str, session_id: str, operations: Iterable[messages.OperationRequest]
    ) -> messages.CommitOperationsResponse:
        """Commits operations in order. Repeating a call is harmless."""
        request = messages.CommitOperationsRequest(diagram_id=diagram_id, session_id=session_id, operations=operations)
        return await _call(self._stub.CommitOperations, request, COMMIT_SECONDS)

    async def read_operations(self, diagram_id: str, after_vector: int) -> messages.ReadOperationsResponse:
        """Committed operations after a vector: as many as fit in a message."""
        for limit in READ_LIMITS:
            request = messages.ReadOperationsRequest(diagram_id=diagram_id, after_vector=after_vector, limit=limit)
            try:
                return await _call(self._stub.ReadOperations, request, CALL_SECONDS)
            except ApiError as error:
                if error.status != 413 or limit == READ_LIMITS[-1]:
                    raise
        raise AssertionError("the last one returns or raises")

    async def diagram_state(self, diagram_id: str) -> messages.DiagramState:
        """The whole diagram."""
        request = messages.GetDiagramStateRequest(diagram_id=diagram_id)
        return await _call(self._stub.GetDiagramState, request, CALL_SECONDS)

    async def check_access(
        self, diagram_id: str, principals: Iterable[Principal]
    ) -> Sequence["messages.Role.ValueType"]:
        """Present roles, in the order of the principals."""
        request = messages.CheckAccessRequest(diagram_id=diagram_id, principals=principals)
        return (await _call(self._stub.CheckAccess, request, CALL_SECONDS)).roles


async def _call(method: Callable[..., Awaitable[Answer]], request: Message, seconds: float) -> Answer:
    """Calls with a deadline, and with the id of the request that is being served, if there is one."""
    identifier = log.request_id.get()
    try:
        return await method(request, timeout=seconds, metadata=((REQUEST_ID_KEY, identifier),) if identifier else None)
    except grpc.aio.AioRpcError as error:
        api_error = from_rpc_error(error)
        if api_error.status == 500 and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            api_error = ApiError(413, "payload_too_large", "The message is larger than services exchange.")
        raise api_error from error


def is_temporary(error: ApiError) -> bool:
    """True when the same call may succeed later."""
    return error.status == 503
