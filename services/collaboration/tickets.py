"""Single-use tickets that let a browser open a WebSocket, which cannot carry a bearer token.

Kept in Redis under a digest, so that reading the store gives nobody a usable ticket.
"""

import hashlib
import secrets

import redis.asyncio
from redis.exceptions import RedisError

from services.shared.errors import unauthorized, unavailable
from tmi.collaboration.v1.relay_pb2 import Ticket

LIFETIME_SECONDS = 30
TICKET_BYTES = 32


class Tickets:
    """Issues and redeems tickets; every replica can redeem what any other issued."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def issue(self, ticket: Ticket) -> str:
        """43 characters of unpadded base64url, good for 30 s. Raises ApiError 503 when Redis is away."""
        text = secrets.token_urlsafe(TICKET_BYTES)
        try:
            await self._client.set(_key(text), ticket.SerializeToString(), ex=LIFETIME_SECONDS)
        except RedisError as error:
            raise unavailable("Tickets cannot be issued at the moment.") from error
        return text

    async def redeem(self, text: str) -> Ticket:
        """What the ticket stands for; it is used up. Raises ApiError 401 or 503."""
        try:
            value = await self._client.getdel(_key(text))
        except RedisError as error:
            raise unavailable("Tickets cannot be checked at the moment.") from error
        if not isinstance(value, bytes):
            raise unauthorized()
        return Ticket.FromString(value)


def _key(text: str) -> str:
    return f"tmi:ws_ticket:{hashlib.sha256(text.encode()).hexdigest()}"
