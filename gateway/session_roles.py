"""The groups and roles of login sessions, as the auth service resolves them, kept for a moment."""

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from gateway.retries import repeated
from gateway.revocations import Revocations
from services.shared.errors import ApiError, from_rpc_error
from tmi.auth.v1.directory_pb2 import ResolveSessionRequest, Revocation, RevocationKind
from tmi.principal.v1.principal_pb2 import Principal

if TYPE_CHECKING:
    from tmi.auth.v1.directory_pb2_grpc import DirectoryAsyncStub

logger = logging.getLogger(__name__)

FRESH_SECONDS = 15.0
"""How long a change of groups may take to have an effect."""
STALE_SECONDS = 3600.0
"""How long what was known goes on to count while the auth service cannot be asked."""
RETRY_SECONDS = 1.0
"""How long such an answer is given before the auth service is asked again."""
CACHED_SESSIONS = 10_000
_CALL_SECONDS = 5.0


@dataclass(slots=True)
class _Resolved:
    """Fields of a Principal, serialized: protobuf merges messages that follow each other."""

    roles: bytes
    user_id: str
    resolved_at: float
    fresh_until: float


class SessionRoles:
    """Resolves sessions, each once at a time; a revoked session or user is forgotten."""

    def __init__(self, directory: "DirectoryAsyncStub", revocations: Revocations) -> None:
        self._directory = directory
        self._known: OrderedDict[str, _Resolved] = OrderedDict()
        self._asking: dict[str, asyncio.Task[bytes]] = {}
        revocations.subscribe(self._forget)

    async def of(self, principal: Principal) -> bytes:
        """Groups and roles of the principal's session, to be appended to the serialized principal.

        Raises ApiError 401 when the session is not alive, 503 when that cannot be told.
        """
        session_id = principal.session_id
        known = self._known.get(session_id)
        if known is not None and known.user_id == principal.user_id and time.monotonic() < known.fresh_until:
            self._known.move_to_end(session_id)
            return known.roles
        key = f"{session_id} {principal.user_id}"
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._resolve(session_id, principal.user_id))
            asking.add_done_callback(lambda task: self._answered(key, task))
        # Whoever waits for it may go away: the others still want the answer.
        return await asyncio.shield(asking)

    def _answered(self, key: str, task: "asyncio.Task[bytes]") -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # seen by whoever still waits, of no interest when nobody does

    async def _resolve(self, session_id: str, user_id: str) -> bytes:
        request = ResolveSessionRequest(session_id=session_id, user_id=user_id)
        now = time.monotonic()
        try:
            answer = await repeated(
                lambda seconds: self._directory.ResolveSession(request, timeout=seconds), _CALL_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            api_error = from_rpc_error(error)
            known = self._known.get(session_id)
            if api_error.status < 500 or known is None or known.user_id != user_id:
                raise api_error from error
            return self._stale(known, api_error, now)
        roles = Principal(
            group_ids=answer.group_ids,
            is_administrator=answer.is_administrator,
            is_security_reviewer=answer.is_security_reviewer,
        ).SerializeToString()
        self._known[session_id] = _Resolved(roles, user_id, now, now + FRESH_SECONDS)
        self._known.move_to_end(session_id)
        if len(self._known) > CACHED_SESSIONS:
            self._known.popitem(last=False)
        return roles

    def _stale(self, known: _Resolved, error: ApiError, now: float) -> bytes:
        if now - known.resolved_at > STALE_SECONDS:
            raise error
        logger.warning("groups are not up to date: the auth service cannot be asked", extra={"code": error.code})
        known.fresh_until = now + RETRY_SECONDS
        return known.roles

    def _forget(self, revocation: Revocation) -> None:
        if revocation.kind == RevocationKind.REVOCATION_KIND_SESSION:
            self._known.pop(revocation.id, None)
        elif revocation.kind == RevocationKind.REVOCATION_KIND_USER:
            for session_id in [key for key, known in self._known.items() if known.user_id == revocation.id]:
                del self._known[session_id]
