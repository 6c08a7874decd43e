"""Counting in a real Valkey: what passes, what is too many, and what several gateways make of it together."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway import rate_limits
from gateway.rate_limits import (
    KNOWN_KEYS,
    LOCAL_SECONDS,
    LOCAL_SHARE,
    PAUSE_SECONDS,
    UNCHECKED,
    Limit,
    RateLimiter,
    Standing,
)
from services.shared.redis_connection import connect_async

pytestmark = pytest.mark.anyio

WINDOW = 1_000_000
"""Seconds: so long that no test sees a window end."""
TEN = Limit("alice", "user", 10)
HUNDRED = Limit("bob", "user", 100)
MILLION = Limit("crowd", "ip", 1_000_000)


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Gateway(RateLimiter):
    """A limiter that asks Redis as often as it can, unless the clock is left standing."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        super().__init__(redis, clock)
        self.clock = clock

    async def ask(self, *limits: Limit) -> Standing:
        """Spends when nothing that is known here is fresh any more."""
        self.clock.seconds += LOCAL_SECONDS
        return await self.pass_or_not(*limits)

    async def pass_or_not(self, *limits: Limit) -> Standing:
        standing = await self.spend(limits)
        assert standing is not None
        return standing


@pytest.fixture(autouse=True)
def _long_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "WINDOW_SECONDS", WINDOW)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """How busy the machine is must not decide what is counted."""
    monkeypatch.setattr(rate_limits, "ANSWER_SECONDS", 30.0)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_async(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def gateway(redis: Redis) -> Gateway:
    return Gateway(redis, Clock())


async def used(redis: Redis, key: str, *, current: int = 0, previous: int = 0, windows_ago: int = 0) -> float:
    """Sets how often the key was used in this and the last window; the share of the last one that still counts."""
    seconds, microseconds = await redis.time()
    now = seconds + microseconds / 1_000_000
    start = now // WINDOW * WINDOW
    values: dict[Any, Any] = {"start": int(start) - windows_ago * WINDOW, "current": current, "previous": previous}
    answer: Any = redis.hset(key, mapping=values)
    await answer
    return 1 - (now - start) / WINDOW


async def test_as_many_pass_as_the_limit_says(gateway: Gateway) -> None:
    standings = [await gateway.ask(TEN) for _ in range(12)]
    assert [standing.remaining for standing in standings] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert [bool(standing.retry_after) for standing in standings] == [False] * 10 + [True] * 2


async def test_what_is_refused_is_not_counted(gateway: Gateway, redis: Redis) -> None:
    for _ in range(15):
        await gateway.ask(TEN)
    answer: Any = redis.hget(TEN.key, "current")
    assert int(await answer) == 10


async def test_the_last_window_counts_by_the_share_that_is_still_covered(gateway: Gateway, redis: Redis) -> None:
    for windows_ago, counts in ((0, "previous"), (1, "current")):
        covered = await used(redis, MILLION.key, windows_ago=windows_ago, **{counts: MILLION.per_minute})
        standing = await gateway.ask(MILLION)
        # One of a million goes with each second of the window, and some may pass meanwhile.
        assert -1 <= standing.remaining + 1 - (1 - covered) * MILLION.per_minute < 60


async def test_what_was_before_the_last_window_is_forgotten(gateway: Gateway, redis: Redis) -> None:
    await used(redis, TEN.key, current=10, previous=10, windows_ago=2)
    assert (await gateway.ask(TEN)).remaining == 9


@pytest.mark.parametrize(("current", "previous"), [(10, 0), (10, 10), (1, 30), (0, 1000), (25, 0)])
async def test_after_retry_after_the_next_one_passes_and_not_before(
    gateway: Gateway, redis: Redis, current: int, previous: int
) -> None:
    covered = await used(redis, TEN.key, current=current, previous=previous)
    standing = await gateway.ask(TEN)
    if not standing.retry_after:
        assert previous * covered + current <= 9.001
        return
    now = (await redis.time())[0]
    assert standing.resets_at == pytest.approx(max(now + covered * WINDOW, now + standing.retry_after), abs=60)
    for seconds, passes in ((standing.retry_after - 60, False), (standing.retry_after + 60, True)):
        window, covered_then = divmod((1 - covered) + seconds / WINDOW, 1)
        counted_then = {0: current + previous * (1 - covered_then), 1: current * (1 - covered_then)}[int(window)]
        assert (counted_then + 1 <= 10) == passes


async def test_keys_do_not_outlive_what_they_count(gateway: Gateway, redis: Redis) -> None:
    await gateway.ask(TEN)
    assert WINDOW < await redis.ttl(TEN.key) <= 2 * WINDOW


async def test_of_several_limits_the_tightest_decides_and_none_counts_what_is_refused(
    gateway: Gateway, redis: Redis
) -> None:
    narrow, wide = Limit("narrow", "session", 2), Limit("wide", "ip", 100)
    standings = [await gateway.pass_or_not(narrow, wide) for _ in range(5)]
    assert [standing.limit.scope for standing in standings] == ["session"] * 5
    assert [bool(standing.retry_after) for standing in standings] == [False, False, True, True, True]
    assert (await gateway.pass_or_not(Limit("another", "session", 2), wide)).remaining == 1
    answer: Any = redis.hget("wide", "current")
    assert int(await answer) == 3


async def test_a_gateway_goes_by_what_it_knows_for_a_share_of_what_is_left(gateway: Gateway, redis: Redis) -> None:
    first = await gateway.pass_or_not(HUNDRED)
    assert first.remaining == 99
    commands = await commands_of(redis)
    for expected in range(98, 98 - 99 // LOCAL_SHARE, -1):
        assert (await gateway.pass_or_not(HUNDRED)).remaining == expected
    assert await commands_of(redis) == commands
    # The share is used up: it asks, and reports what passed.
    assert (await gateway.pass_or_not(HUNDRED)).remaining == 98 - 99 // LOCAL_SHARE
    assert await commands_of(redis) == commands + 1


async def test_what_passed_is_reported_when_the_answer_is_not_fresh_any_more(gateway: Gateway, redis: Redis) -> None:
    for _ in range(5):
        await gateway.pass_or_not(HUNDRED)
    assert (await gateway.ask(HUNDRED)).remaining == 94
    assert (await Gateway(redis, Clock()).ask(HUNDRED)).remaining == 93


async def test_what_passed_a_window_ago_is_not_reported_any_more(gateway: Gateway) -> None:
    for _ in range(5):
        await gateway.pass_or_not(HUNDRED)
    gateway.clock.seconds += WINDOW
    assert (await gateway.ask(HUNDRED)).remaining == 98


async def test_the_limit_holds_to_the_request_for_one_gateway(gateway: Gateway) -> None:
    standings = [await gateway.pass_or_not(HUNDRED) for _ in range(150)]
    assert [standing.remaining for standing in standings[:100]] == list(range(99, -1, -1))
    assert all(standing.retry_after for standing in standings[100:])


async def test_several_gateways_count_together(redis: Redis) -> None:
    gateways = [Gateway(redis, Clock()) for _ in range(4)]
    passed = 0
    for turn in range(200):
        standing = await gateways[turn % 4].pass_or_not(HUNDRED)
        passed += not standing.retry_after
    assert passed == 100


async def test_a_refusal_is_remembered_for_a_moment(gateway: Gateway, redis: Redis) -> None:
    await used(redis, TEN.key, current=10)
    assert (await gateway.ask(TEN)).retry_after
    commands = await commands_of(redis)
    assert (await gateway.pass_or_not(TEN)).retry_after
    assert await commands_of(redis) == commands
    await redis.flushall()
    assert not (await gateway.ask(TEN)).retry_after


async def test_keys_that_are_remembered_are_bounded(gateway: Gateway) -> None:
    for number in range(KNOWN_KEYS + 5):
        gateway._remember(Standing(Limit(str(number), "user", 10), 5, 0, 0))
    assert len(gateway._known) == KNOWN_KEYS


async def test_without_redis_everything_passes_and_it_is_not_asked_all_the_time() -> None:
    clock = Clock()
    redis = connect_async("unix:///nowhere/valkey.sock")
    gateway = RateLimiter(redis, clock)
    attempts = counted(redis)
    before = UNCHECKED._value.get()
    for _ in range(10):
        assert await gateway.spend([TEN]) is None
        assert await gateway.spend([TEN, HUNDRED]) is None
    assert UNCHECKED._value.get() == before + 20
    assert attempts() == 1
    clock.seconds += PAUSE_SECONDS
    assert await gateway.spend([TEN]) is None
    assert attempts() == 2
    await redis.aclose()


async def test_a_redis_that_hangs_is_waited_for_once(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = RateLimiter(redis, Clock())
    assert await gateway.spend([TEN]) is not None
    monkeypatch.setattr(rate_limits, "ANSWER_SECONDS", 0.1)
    attempts = counted(redis)
    other = connect_async(redis_url)
    await other.client_pause(60_000, all=False)
    try:
        for _ in range(50):
            assert await gateway.spend([HUNDRED]) is None
    finally:
        await other.client_unpause()
        await other.aclose()
    assert attempts() == 1


def counted(redis: Redis) -> Callable[[], int]:
    """How often the client was sent something, from now on."""
    calls = 0
    execute = redis.execute_command

    async def execute_and_count(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return await execute(*arguments, **options)  # type: ignore[no-untyped-call]

    redis.execute_command = execute_and_count  # type: ignore[method-assign]
    return lambda: calls


async def commands_of(redis: Redis) -> int:
    """How often the server ran a script."""
    statistics = await redis.info("commandstats")
    return int(statistics.get("cmdstat_evalsha", {"calls": 0})["calls"])
