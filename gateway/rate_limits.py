"""Counts requests in Redis and tells which of them are too many.

A limit is a number of requests in any minute, told apart by a key: a user, an address, a login. What counts is a
sliding window: the requests of this minute of the clock, and those of the last one by the share of it that the
window still covers. All gateways count together, by the clock of Redis.

One script judges all limits of a request at once: either it is counted in each of them or, when it is too many in
any, in none. That is one round trip, and still most of what a limit costs, so a gateway goes by what it knows of a
key for LOCAL_SECONDS, and for no more requests than a LOCAL_SHARE-th of those that were left; it reports them when
it asks next. Up to so many gateways the limit therefore holds to the request, as long as each of them is asked on;
one that is not asked any more keeps to itself at most that share.

A limit protects others from a client that is out of hand, it is no guard of data: when Redis cannot be asked within
ANSWER_SECONDS every request passes, and is counted in a metric.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
LOCAL_SECONDS = 1.0
LOCAL_SHARE = 10
ANSWER_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""How long Redis is not asked again after it did not answer."""
KNOWN_KEYS = 10_000

UNCHECKED = Counter("tmi_rate_limit_unchecked_total", "Requests that passed because Redis could not be asked.")

_SCRIPT = """
local window = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local start = math.floor(now / window) * window
local covered = 1 - (now - start) / window
local is_refused = false
local states = {}
for i, key in ipairs(KEYS) do
  local limit, unreported = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local stored = redis.call('HMGET', key, 'start', 'current', 'previous')
  local began, current, previous = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
  if began == start - window then
    previous, current = current, 0
  elseif began ~= start then
    previous, current = 0, 0
  end
  current = current + unreported
  local wait = 0
  if previous * covered + current + 1 > limit then
    is_refused = true
    if current + 1 <= limit then
      wait = start + window * (1 - (limit - 1 - current) / previous) - now
    else
      wait = start + window * (2 - (limit - 1) / current) - now
    end
  end
  states[i] = {limit, current, previous, wait}
end
local answer = {}
for i, key in ipairs(KEYS) do
  local limit, current, previous, wait = unpack(states[i])
  if not is_refused then current = current + 1 end
  redis.call('HSET', key, 'start', start, 'current', current, 'previous', previous)
  redis.call('EXPIRE', key, 2 * window)
  local left = math.max(0, math.floor(limit - previous * covered - current))
  local retry_after = 0
  if wait > 0 then retry_after = math.max(1, math.ceil(wait)) end
  answer[i] = {left, retry_after, math.max(start + window, math.ceil(now + wait))}
end
return answer
"""
"""KEYS: one for each limit. ARGV: the seconds of the window; then for each limit how many requests it allows, and how
many passed without having been reported. Answers for each: requests left, seconds until one is allowed (0: this one
is), Unix time at which the window ends or, when this one is too many, the next is allowed."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests in a minute with this key. scope: what the key tells apart, for people."""

    key: str
    scope: str
    per_minute: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a request stands with the tightest of its limits.

    retry_after: seconds after which another one would pass, 0 when this one does. resets_at: Unix seconds.
    """

    limit: Limit
    remaining: int
    resets_at: int
    retry_after: int


@dataclass(slots=True)
class _Known:
    """What Redis said of a key, and how many requests passed here since."""

    standing: Standing
    until: float
    unreported: int = 0


class RateLimiter:
    """The limits of one gateway. `now` is a monotonic clock."""

    def __init__(self, redis: Redis, now: Callable[[], float] = time.monotonic) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._now = now
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._closed_until = 0.0

    async def spend(self, limits: Sequence[Limit]) -> Standing | None:
        """Counts one request in all of the limits, or in none when it is too many. None: nobody could tell."""
        if len(limits) == 1 and (standing := self._by_what_is_known(limits[0])):
            return standing
        if self._now() < self._closed_until:
            UNCHECKED.inc()
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = await self._ask(limits)
        except (RedisError, OSError, TimeoutError) as error:
            UNCHECKED.inc()
            self._closed_until = self._now() + PAUSE_SECONDS
            logger.warning("requests are not limited: Redis cannot be asked", extra={"error": type(error).__name__})
            return None
        standings = [
            Standing(limit, remaining, resets_at, retry_after)
            for limit, (remaining, retry_after, resets_at) in zip(limits, answers, strict=True)
        ]
        if len(limits) == 1:
            self._remember(standings[0])
        return max(standings, key=lambda each: (each.retry_after, -each.remaining))

    def _by_what_is_known(self, limit: Limit) -> Standing | None:
        """How the request stands if that can be told here: the last answer is fresh, and its share not used up."""
        known = self._known.get(limit.key)
        if known is None or self._now() >= known.until:
            return None
        last = known.standing
        if last.retry_after:
            return last
        if known.unreported >= last.remaining // LOCAL_SHARE:
            return None
        known.unreported += 1
        return Standing(limit, last.remaining - known.unreported, last.resets_at, 0)

    async def _ask(self, limits: Sequence[Limit]) -> list[tuple[int, int, int]]:
        arguments = [WINDOW_SECONDS]
        for limit in limits:
            known = self._known.get(limit.key)
            unreported = 0
            if known is not None:
                # What passed a window ago counts no more.
                unreported = known.unreported if self._now() < known.until + WINDOW_SECONDS else 0
                known.unreported = 0
            arguments += (limit.per_minute, unreported)
        answers: list[tuple[int, int, int]] = await self._script([limit.key for limit in limits], arguments)
        return answers

    def _remember(self, standing: Standing) -> None:
        key = standing.limit.key
        passed_meanwhile = self._known[key].unreported if key in self._known else 0
        self._known[key] = _Known(standing, self._now() + LOCAL_SECONDS, passed_meanwhile)
        self._known.move_to_end(key)
        if len(self._known) > KNOWN_KEYS:
            self._known.popitem(last=False)
