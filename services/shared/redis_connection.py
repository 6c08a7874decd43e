"""Connections to Redis or Valkey. URLs follow the guide: `redis://secret@host` means a password."""

from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.shared.startup import CannotStart


def normalise(url: str) -> str:
    """Turns `redis://secret@host` into `redis://:secret@host`; leaves other URLs alone."""
    parts = urlsplit(url)
    if parts.username and parts.password is None:
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f":{parts.username}@{host}"))
    return url


def connect(url: str) -> redis.Redis:
    """A synchronous client. Fails fast: callers decide what losing Redis means. Raises CannotStart."""
    retry = Retry(NoBackoff(), 1)
    try:
        return redis.Redis.from_url(normalise(url), socket_timeout=2, socket_connect_timeout=1, retry=retry)
    except ValueError as error:
        raise _unusable(error) from error


def connect_async(url: str, *, retries: int = 1) -> redis.asyncio.Redis:
    """An asyncio client with the same limits. Raises CannotStart.

    retries: 0 for a subscriber who has to learn of a lost connection, which the client would otherwise
    replace and subscribe again without a word.
    """
    retry = redis.asyncio.retry.Retry(NoBackoff(), retries)
    try:
        return redis.asyncio.Redis.from_url(normalise(url), socket_timeout=2, socket_connect_timeout=1, retry=retry)
    except ValueError as error:
        raise _unusable(error) from error


def _unusable(error: ValueError) -> CannotStart:
    return CannotStart(f"TMI_REDIS_URL cannot be used: {error}")
