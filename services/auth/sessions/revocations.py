"""What was revoked before it expired: stored, announced to the gateways, and looked up."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import redis
from sqlalchemy import Connection, or_, select

from services.auth.sessions.tables import revocations
from services.shared import sql_dialect
from services.shared.access_token import REVOCATIONS_CHANNEL
from tmi.auth.v1.directory_pb2 import Revocation, RevocationKind

logger = logging.getLogger(__name__)


def record(connection: Connection, kind: RevocationKind.ValueType, identifier: str, expires_at: datetime) -> Revocation:
    """Revokes a whole token or login session; `expires_at` is when nothing of it can be valid any more.

    `revoked_at` is set to that same end: no token of it is spared, however late a replica with
    another clock issued it.
    """
    connection.execute(
        sql_dialect.insert(connection, revocations)
        .values(kind=kind, id=identifier, revoked_at=expires_at, expires_at=expires_at)
        .on_conflict_do_nothing()
    )
    return _message(kind, identifier, expires_at, expires_at)


def in_force(connection: Connection, now: datetime) -> list[Revocation]:
    """Revocations whose tokens have not all expired."""
    rows = connection.execute(
        select(revocations).where(revocations.c.expires_at > now).order_by(revocations.c.kind, revocations.c.id)
    )
    return [_message(row.kind, row.id, row.revoked_at, row.expires_at) for row in rows]


def is_revoked(connection: Connection, claims: Mapping[str, Any]) -> bool:
    """Whether the access token with these claims, its session or its user was revoked."""
    issued_at = datetime.fromtimestamp(claims["iat"], UTC)
    of = revocations.c
    matches = or_(
        *(
            (of.kind == kind) & (of.id == claims[claim])
            for kind, claim in (
                (RevocationKind.REVOCATION_KIND_TOKEN, "jti"),
                (RevocationKind.REVOCATION_KIND_SESSION, "sid"),
                (RevocationKind.REVOCATION_KIND_USER, "tmi_user_id"),
            )
        )
    )
    return connection.scalar(select(of.id).where(matches, of.revoked_at >= issued_at).limit(1)) is not None


class Announcer:
    """Tells the gateways over Redis. They also read the table, so a lost message only delays them."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def announce(self, revocation: Revocation) -> None:
        """Publishes; when Redis cannot be reached this is logged and the caller goes on."""
        try:
            self._redis.publish(REVOCATIONS_CHANNEL, revocation.SerializeToString())
        except redis.RedisError as error:
            logger.warning("revocation not announced", extra={"error": type(error).__name__})


def _message(kind: RevocationKind.ValueType, identifier: str, revoked_at: datetime, expires_at: datetime) -> Revocation:
    return Revocation(
        kind=kind, id=identifier, revoked_at=int(revoked_at.timestamp()), expires_at=int(expires_at.timestamp())
    )
