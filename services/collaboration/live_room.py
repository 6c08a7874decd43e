"""A room at work: carries out what the room core asks for, and feeds it the outcomes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TypeVar

from redis.exceptions import RedisError

from services.collaboration import effects, metrics
from services.collaboration.endings import Endings
from services.collaboration.presence import Presence
from services.collaboration.relay import Relay
from services.collaboration.room import DIAGRAM_TOO_LARGE, HOST_DISCONNECTED, Room
from services.collaboration.sequencer_client import SequencerClient, is_temporary
from services.collaboration.stream import Stream
from services.shared.errors import ApiError
from tmi.collaboration.v1.relay_pb2 import PresenceChanged, RelayFrame
from tmi.threat_model.v1.sequencer_pb2 import (
    CommitOperationsResponse,
    OperationRequest,
    OperationResult,
    Outcome,
    Role,
)

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 1.0
COMMIT_ATTEMPTS = 3
READ_ATTEMPTS = 6
"""Tries of a call that fails for another reason than the sequencer being away: for up to 2 s."""
CANNOT_GO_ON = "The collaboration session has ended because of an error in the server."
DIAGRAM_GONE = "The diagram no longer exists."

Answer = TypeVar("Answer")


class LiveRoom:
    """One room and its streams. After any input to `room`, call `apply`."""

    def __init__(
        self,
        room: Room,
        sequencer: SequencerClient,
        presence: Presence,
        relay: Relay,
        endings: Endings,
        on_finished: Callable[["LiveRoom"], None],
    ) -> None:
        self.room = room
        self.session_id = room.session.session_id
        self.diagram_id = room.session.diagram_id
        self._sequencer = sequencer
        self._presence = presence
        self._relay = relay
        self._endings = endings
        self._on_finished = on_finished
        self._streams: dict[str, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._presence_work: asyncio.Queue[effects.StorePresence | effects.RemovePresence | None] = asyncio.Queue()
        self._spawn(self._keep_presence())
        self._wanted_presence = False
        self.refresh_presence()

    def open_stream(self, link: str) -> Stream:
        """The frames of a new stream."""
        stream = Stream()
        self._streams[link] = stream
        return stream

    def close_stream(self, link: str) -> None:
        """The stream has ended."""
        self._streams.pop(link, None)
        self.room.detach(link, time.time())
        self.apply()

    def end_streams(self) -> None:
        """Asks every gateway to attach elsewhere."""
        for stream in self._streams.values():
            stream.end()

    def apply(self) -> None:
        """Carries out what the room asks for."""
        for effect in self.room.take_effects():
            self._apply(effect)

    def _apply(self, effect: effects.Effect) -> None:
        match effect:
            case effects.SendFrame():
                if stream := self._streams.get(effect.link):
                    stream.put(effect.frame)
                    if stream.is_overfull:
                        logger.warning("stream too slow", extra={"session_id": self.session_id})
                        self._streams.pop(effect.link).cut()
            case effects.EndStream():
                if stream := self._streams.pop(effect.link, None):
                    stream.end()
            case effects.CommitGroup():
                self._spawn(self._commit(effect.operations))
            case effects.ReadLog():
                self._spawn(self._read_log(effect.after_vector))
            case effects.FetchState():
                self._spawn(self._fetch_state())
            case effects.CheckAccess():
                self._spawn(self._check_access(effect))
            case effects.Publish():
                self._relay.publish(self.session_id, effect.frame)
            case effects.StorePresence() | effects.RemovePresence():
                self._presence_work.put_nowait(effect)
            case effects.WakeAt():
                delay = max(effect.time - time.time(), 0.0)
                asyncio.get_running_loop().call_later(delay, self.tick)
            case effects.EndSession():
                self._spawn(self._end_session(effect.reason))
            case effects.TellSettled():
                self._spawn(self._endings.tell_settled(effect.ending_id))
            case effects.Finished():
                self._presence_work.put_nowait(None)
                self._on_finished(self)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.fail(error)

    def tick(self) -> None:
        """Time has passed."""
        self.room.tick(time.time())
        self.apply()

    def poll(self) -> None:
        """Looks into the operation log."""
        self.room.poll()
        self.apply()

    def recheck_access(self) -> None:
        """Asks for present roles."""
        self.room.recheck_access()
        self.apply()

    def receive(self, frame: RelayFrame) -> None:
        """Takes a frame of another replica."""
        match frame.WhichOneof("frame"):
            case "operations":
                self.room.relayed(frame.operations.operations, time.time())
            case "volatile_message":
                self.room.volatile_relayed(frame.volatile_message)
            case "direct":
                self.room.relayed_direct(frame.direct)
            case "presence_changed":
                self.refresh_presence()
            case "session_ending":
                self.room.settle(frame.session_ending.ending_id, frame.session_ending.reason)
            case "session_ended":
                self.room.end(frame.session_ended.reason, time.time())
        self.apply()

    def end(self, reason: str) -> None:
        """The session was closed: tells everybody on every replica."""
        self.room.publish_end(reason, time.time())
        self.apply()

    def fail(self, error: BaseException) -> None:
        """Ends the session because of what will not go away: whoever repeated it would fail as well."""
        reason = CANNOT_GO_ON
        if isinstance(error, ApiError):
            reason = {404: DIAGRAM_GONE, 413: DIAGRAM_TOO_LARGE}.get(error.status, CANNOT_GO_ON)
            logger.error("room ended", extra={"session_id": self.session_id, "error": error.code})
        else:
            logger.error("room failed", extra={"session_id": self.session_id}, exc_info=error)
        if not self.room.is_finished:
            self.end(reason)
            self._spawn(self._close_session())

    async def _close_session(self) -> None:
        """Lets the diagram be written over REST again; it comes to that anyway when nobody notes the session."""
        with suppress(ApiError):
            await self._sequencer.close_session(self.diagram_id, self.session_id)

    def stop(self) -> None:
        """Ends all work of this room."""
        for task in self._tasks:
            task.cancel()

    # Sequencer

    async def _retry(self, call: Callable[[], Awaitable[Answer]], attempts: int = READ_ATTEMPTS) -> Answer | None:
        """The answer, however long the sequencer is away; None once the room is finished.

        Raises ApiError when the call fails `attempts` times for another reason, or because of what is asked.
        """
        delay = FIRST_RETRY_SECONDS
        failures = 0
        while not self.room.is_finished:
            try:
                return await call()
            except ApiError as error:
                if not is_temporary(error):
                    failures += 1
                    logger.error("sequencer failed", extra={"session_id": self.session_id, "error": error.code})
                    if failures == attempts or error.status in (404, 413):
                        raise
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)
        return None

    async def _commit(self, operations: tuple[OperationRequest, ...]) -> None:
        response = await self._commit_group(operations)
        if response is not None:
            metrics.count(response)
            self.room.committed(response, time.time())
            self.apply()

    async def _commit_group(self, operations: tuple[OperationRequest, ...]) -> CommitOperationsResponse | None:
        def call() -> Awaitable[CommitOperationsResponse]:
            return self._sequencer.commit_operations(self.diagram_id, self.session_id, operations)

        try:
            return await self._retry(call, COMMIT_ATTEMPTS)
        except ApiError as error:
            if error.status == 404:
                raise
            logger.error("commit failed", extra={"session_id": self.session_id, "operations": len(operations)})
        # One of them may be what the sequencer cannot digest: the others need not suffer from it.
        if len(operations) == 1:
            return CommitOperationsResponse(results=[_failed()], update_vector=self.room.vector)
        whole = CommitOperationsResponse()
        for operation in operations:
            part = await self._commit_group((operation,))
            if part is None or part.session_ended:
                return part
            whole.results.extend(part.results)
            whole.update_vector = part.update_vector
        return whole

    async def _read_log(self, after_vector: int) -> None:
        response = await self._retry(lambda: self._sequencer.read_operations(self.diagram_id, after_vector))
        if response is not None:
            self.room.log_read(after_vector, response, time.time())
            self.apply()

    async def _fetch_state(self) -> None:
        state = await self._retry(lambda: self._sequencer.diagram_state(self.diagram_id))
        if state is not None:
            self.room.state_fetched(state, time.time())
            self.apply()

    async def _check_access(self, effect: effects.CheckAccess) -> None:
        principals = [principal for _, principal in effect.principals]
        roles = await self._retry(lambda: self._sequencer.check_access(self.diagram_id, principals))
        if roles is not None:
            known: dict[str, Role.ValueType] = {
                socket_id: role for (socket_id, _), role in zip(effect.principals, roles, strict=True)
            }
            self.room.access_checked(known, time.time())
            self.apply()

    async def _end_session(self, reason: str) -> None:
        """Closes the session unless the host turns out to be connected elsewhere."""
        await self._read_presence()

        async def close() -> bool | None:
            if not self.room.is_host_absent:
                return None
            return await self._sequencer.close_session(self.diagram_id, self.session_id)

        closed = await self._retry(close)
        if closed:
            logger.info("session ended", extra={"session_id": self.session_id, "reason": HOST_DISCONNECTED})
            self.end(reason)
        elif closed is False:
            # Another replica was faster, and perhaps told so while the relay was away.
            self.room.end(reason, time.time())
            self.apply()

    # Presence

    def refresh_presence(self) -> None:
        """Reads the shared presence soon; several wishes are granted by one reading."""
        if not self._wanted_presence and not self.room.is_finished:
            self._wanted_presence = True
            self._spawn(self._read_presence())

    async def _read_presence(self) -> None:
        self._wanted_presence = False
        try:
            sockets = await self._presence.snapshot(self.session_id)
        except (RedisError, OSError):
            self._presence.failed()
            self.room.presence_unavailable()
        else:
            if self._presence.is_trustworthy:
                self.room.presence(sockets, time.time())
            else:
                self.room.presence_unavailable()
        self.apply()

    async def _keep_presence(self) -> None:
        """Writes joins and leaves in their order, and tells the other replicas after each."""
        while effect := await self._presence_work.get():
            try:
                if isinstance(effect, effects.StorePresence):
                    await self._presence.store(self.session_id, [effect.socket])
                else:
                    await self._presence.remove(self.session_id, effect.socket)
            except (RedisError, OSError):
                self._presence.failed()
            self._relay.publish(self.session_id, RelayFrame(presence_changed=PresenceChanged()))

    async def heartbeat(self) -> None:
        """Extends the expiry of this replica's sockets and reads everybody's."""
        sockets = [socket for socket in self.room.sockets.values() if socket.role != Role.ROLE_UNSPECIFIED]
        try:
            if sockets:
                await self._presence.store(self.session_id, sockets)
        except (RedisError, OSError):
            self._presence.failed()
        await self._read_presence()
        if self.room.is_finished:
            return
        # A socket that left while its heartbeat was under way must not come back by it.
        for socket in sockets:
            if socket.socket_id not in self.room.sockets:
                self._presence_work.put_nowait(effects.RemovePresence(socket))


def _failed() -> OperationResult:
    return OperationResult(
        outcome=Outcome.OUTCOME_REJECTED,
        reason="validation_failed",
        message="The server could not apply this operation.",
        requires_resync=True,
    )
