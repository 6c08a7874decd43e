"""Revoked tokens, sessions and users, kept here so that checking a request asks nobody.

The auth service publishes each revocation on Redis, and its full list is read again every few
seconds: without Redis a revocation only takes effect later.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError
from redis.exceptions import RedisError

from gateway.retries import repeated
from services.shared.access_token import REVOCATIONS_CHANNEL
from services.shared.errors import unavailable
from services.shared.redis_connection import connect_async
from tmi.auth.v1.directory_pb2 import ListRevocationsRequest, Revocation, RevocationKind
from tmi.principal.v1.principal_pb2 import Principal

if TYPE_CHECKING:
    from tmi.auth.v1.directory_pb2_grpc import DirectoryAsyncStub

logger = logging.getLogger(__name__)

RELOAD_SECONDS = 10.0
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0
_CALL_SECONDS = 5.0
POLL_SECONDS = 30.0


class Revocations:
    """What has been revoked and could still be valid by its expiry."""

    def __init__(self, directory: "DirectoryAsyncStub", redis_url: str) -> None:
        """Nothing is known until `run` has loaded it. An empty redis_url leaves only the reloads."""
        self._directory = directory
        self._redis_url = redis_url
        self._known: dict[tuple[int, str], Revocation] = {}
        self._callbacks: list[Callable[[Revocation], None]] = []
        self._loaded = False

    def require(self) -> None:
        """Raises ApiError 503 as long as the list was never read: what is revoked cannot be told."""
        if not self._loaded:
            raise unavailable("Tokens cannot be checked yet: the auth service has not answered.")

    def is_revoked(self, principal: Principal) -> bool:
        """Whether the token, its login session or its user was revoked after the token was issued."""
        known = self._known
        if not known:
            return False
        if (RevocationKind.REVOCATION_KIND_TOKEN, principal.token_id) in known:
            return True
        for key in (
            (RevocationKind.REVOCATION_KIND_SESSION, principal.session_id),
            (RevocationKind.REVOCATION_KIND_USER, principal.user_id),
        ):
            revocation = known.get(key)
            if revocation is not None and principal.issued_at <= revocation.revoked_at:
                return True
        return False

    def subscribe(self, callback: Callable[[Revocation], None]) -> Callable[[], None]:
        """Calls back with every revocation that becomes known, after it took effect; the result ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def add(self, revocation: Revocation) -> None:
        """Takes note of a revocation, unless it is expired or known with the same effect."""
        if revocation.expires_at <= time.time():
            return
        key = (int(revocation.kind), revocation.id)
        before = self._known.get(key)
        if before is not None and before.revoked_at >= revocation.revoked_at:
            return
        self._known[key] = revocation
        for callback in list(self._callbacks):
            try:
                callback(revocation)
            except Exception as error:
                logger.error("a callback failed on a revocation", exc_info=error)

    async def run(self) -> None:
        """Keeps the list current; never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_loaded())
            if self._redis_url:
                tasks.create_task(self._keep_subscribed())

    async def _keep_loaded(self) -> None:
        retry = FIRST_RETRY_SECONDS
        while True:
            self._forget_expired()
            if await self._load() or self._loaded:
                await asyncio.sleep(RELOAD_SECONDS)
            else:
                await asyncio.sleep(retry)
                retry = min(2 * retry, LONGEST_RETRY_SECONDS)

    async def _load(self) -> bool:
        try:
            answer = await repeated(
                lambda seconds: self._directory.ListRevocations(
                    ListRevocationsRequest(), timeout=seconds, wait_for_ready=True
                ),
                _CALL_SECONDS,
            )
        except grpc.RpcError as error:
            logger.warning("cannot read revocations from the auth service", extra={"code": str(error.code())})
            return False
        for revocation in answer.revocations:
            self.add(revocation)
        self._loaded = True
        return True

    async def _keep_subscribed(self) -> None:
        retry = FIRST_RETRY_SECONDS
        while True:
            try:
                async with connect_async(self._redis_url, retries=0) as redis, redis.pubsub() as subscription:
                    await subscription.subscribe(REVOCATIONS_CHANNEL)
                    # What was published while nobody listened is in the list.
                    await self._load()
                    retry = FIRST_RETRY_SECONDS
                    while True:
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=POLL_SECONDS)
                        if message is None:
                            await subscription.ping()
                        elif message["type"] == "message":
                            self._receive(message["data"])
            except (RedisError, OSError) as error:
                logger.warning("not listening for revocations", extra={"error": str(error), "retry_seconds": retry})
            await asyncio.sleep(retry)
            retry = min(2 * retry, LONGEST_RETRY_SECONDS)

    def _receive(self, payload: bytes) -> None:
        try:
            self.add(Revocation.FromString(payload))
        except DecodeError:
            logger.error("not a revocation on the channel", extra={"channel": REVOCATIONS_CHANNEL})

    def _forget_expired(self) -> None:
        now = time.time()
        self._known = {key: revocation for key, revocation in self._known.items() if revocation.expires_at > now}
