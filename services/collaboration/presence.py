"""Connected sockets of every replica, in Redis, with expiry.

A replica writes its own sockets again at every heartbeat. Those of a dead replica expire, unless
another replica has taken them over and writes them as its own. Keys:

- `tmi:presence:{session}:expiry`  sorted set, socket id by expiry
- `tmi:presence:{session}:sockets` hash, socket id to the replica's id (36 characters) and a PresenceEntry
- `tmi:sockets:{user}`             sorted set, socket id by expiry, over all sessions
"""

import time
from collections.abc import Iterable, Sequence

import redis.asyncio
from redis.exceptions import RedisError

from services.collaboration.participants import ConnectedSocket
from services.shared.errors import ApiError, unavailable
from tmi.collaboration.v1.relay_pb2 import PresenceEntry
from tmi.principal.v1.principal_pb2 import Principal

HEARTBEAT_SECONDS = 5.0
EXPIRY_SECONDS = 15.0
RESERVATION_SECONDS = 30.0
SOCKETS_PER_USER = 5
SOCKETS_PER_SESSION = 50

TOO_MANY_CONNECTIONS = "too_many_connections"
_REPLICA_ID_LENGTH = 36
_USER_FULL = 1
_SESSION_FULL = 2

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_RESERVE = (
    _NOW
    + """
local socket, lifetime = ARGV[1], tonumber(ARGV[2])
for index, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[2 + index]) then return index end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + lifetime, socket)
  redis.call('PEXPIRE', key, lifetime)
end
return 0
"""
)

_STORE = (
    _NOW
    + """
local socket, lifetime = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], now + lifetime, socket)
redis.call('ZADD', KEYS[2], now + lifetime, socket)
redis.call('HSET', KEYS[3], socket, ARGV[3])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, lifetime) end
"""
)

# A late goodbye must not evict a socket that another replica has taken over.
_REMOVE = """
local socket, replica = ARGV[1], ARGV[2]
local value = redis.call('HGET', KEYS[3], socket)
if value and string.sub(value, 1, string.len(replica)) ~= replica then return end
redis.call('ZREM', KEYS[1], socket)
redis.call('ZREM', KEYS[2], socket)
redis.call('HDEL', KEYS[3], socket)
"""

# Whoever finds an id expired takes it from the sorted set: what is said of it ends with that.
_SNAPSHOT = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local living, sockets = {}, redis.call('HGETALL', KEYS[2])
for index = 1, #sockets, 2 do
  if redis.call('ZSCORE', KEYS[1], sockets[index]) then
    living[#living + 1] = sockets[index + 1]
  else
    redis.call('HDEL', KEYS[2], sockets[index])
  end
end
return living
"""
)


class Presence:
    """Reads and writes the shared presence. Methods raise RedisError unless they say otherwise."""

    def __init__(self, client: redis.asyncio.Redis, replica_id: str, expiry_seconds: float = EXPIRY_SECONDS) -> None:
        """replica_id: a UUID."""
        assert len(replica_id) == _REPLICA_ID_LENGTH
        self._client = client
        self._replica_id = replica_id.encode()
        self._lifetime = int(expiry_seconds * 1000)
        self._expiry_seconds = expiry_seconds
        self._failed_at = float("-inf")
        self._reserve = client.register_script(_RESERVE)
        self._store = client.register_script(_STORE)
        self._remove = client.register_script(_REMOVE)
        self._snapshot = client.register_script(_SNAPSHOT)

    @property
    def is_trustworthy(self) -> bool:
        """False for a while after a failure, until every living replica has written its sockets again."""
        return time.monotonic() - self._failed_at > self._expiry_seconds / 2

    def failed(self) -> None:
        """Notes that Redis could not be reached, or may have lost its data."""
        self._failed_at = time.monotonic()

    async def reserve(self, session_id: str, principal: Principal, socket_id: str) -> None:
        """Counts a socket that is about to connect.

        Raises ApiError 429 when the user or the session has too many, 503 when Redis is away.
        """
        try:
            full = await self._reserve(
                keys=[_user_key(principal), _expiry_key(session_id)],
                args=[socket_id, int(RESERVATION_SECONDS * 1000), SOCKETS_PER_USER, SOCKETS_PER_SESSION],
            )
        except RedisError as error:
            self.failed()
            raise unavailable("WebSocket connections cannot be opened at the moment.") from error
        if full == _USER_FULL:
            message = f"You have {SOCKETS_PER_USER} connections already."
            raise ApiError(429, TOO_MANY_CONNECTIONS, message, headers={"Retry-After": "60"})
        if full == _SESSION_FULL:
            message = f"The session has {SOCKETS_PER_SESSION} connections already."
            raise ApiError(429, "session_full", message, headers={"Retry-After": "30"})

    async def store(self, session_id: str, sockets: Iterable[ConnectedSocket]) -> None:
        """Writes sockets of this replica and extends their expiry."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for socket in sockets:
                await self._store(
                    keys=_keys(session_id, socket),
                    args=[socket.socket_id, self._lifetime, self._replica_id + _entry(socket).SerializeToString()],
                    client=pipeline,
                )
            await pipeline.execute()

    async def remove(self, session_id: str, socket: ConnectedSocket) -> None:
        """Takes a socket out, unless another replica has taken it over."""
        await self._remove(keys=_keys(session_id, socket), args=[socket.socket_id, self._replica_id])

    async def snapshot(self, session_id: str) -> list[ConnectedSocket]:
        """Every socket of the session that has not expired."""
        return (await self.snapshots([session_id]))[session_id]

    async def snapshots(self, session_ids: Sequence[str]) -> dict[str, list[ConnectedSocket]]:
        """The sockets of several sessions, in one exchange with Redis."""
        if not session_ids:
            return {}
        async with self._client.pipeline(transaction=False) as pipeline:
            for session_id in session_ids:
                await self._snapshot(keys=[_expiry_key(session_id), _sockets_key(session_id)], client=pipeline)
            answers = await pipeline.execute()
        return {
            session_id: [_socket(PresenceEntry.FromString(value[_REPLICA_ID_LENGTH:])) for value in values]
            for session_id, values in zip(session_ids, answers, strict=True)
        }


def _expiry_key(session_id: str) -> str:
    return f"tmi:presence:{session_id}:expiry"


def _sockets_key(session_id: str) -> str:
    return f"tmi:presence:{session_id}:sockets"


def _user_key(principal: Principal) -> str:
    return f"tmi:sockets:{principal.user_id}"


def _keys(session_id: str, socket: ConnectedSocket) -> list[str]:
    return [_user_key(socket.principal), _expiry_key(session_id), _sockets_key(session_id)]


def _entry(socket: ConnectedSocket) -> PresenceEntry:
    return PresenceEntry(
        socket_id=socket.socket_id,
        principal=socket.principal,
        role=socket.role,
        joined_at=int(socket.joined_at * 1000),
        last_activity_at=int(socket.last_activity_at * 1000),
    )


def _socket(entry: PresenceEntry) -> ConnectedSocket:
    return ConnectedSocket(
        entry.socket_id, entry.principal, entry.role, entry.joined_at / 1000, entry.last_activity_at / 1000
    )
