"""Probes the stores and the services in the background, so that no request waits for a probe."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.health.components import Level, Probe, Snapshot, nothing_known
from services.shared import redis_connection
from services.shared.database import Database
from services.shared.settings import Settings

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
IMPATIENT_INTERVAL_SECONDS = 0.3
"""While something is missing: recovery is seen soon."""
TIMEOUT_SECONDS = 1.5


class DiskFull(Exception):
    """The database answers and can store nothing."""


class Prober:
    """Holds the newest snapshot. Use as an async context manager; probing runs as long as it is open."""

    def __init__(self, settings: Settings) -> None:
        addresses = {
            "auth": settings.auth_address,
            "threat_model": settings.threat_model_address,
            "collaboration": settings.collaboration_address,
        }
        self.snapshot = nothing_known(addresses)
        self._addresses: Mapping[str, Sequence[str]] = addresses
        self._database = Database(settings.database_url, "health", pool_size=1)
        self._redis = redis_connection.connect_async(settings.redis_url) if settings.redis_url else None
        self._stubs: dict[str, health_pb2_grpc.HealthAsyncStub] = {}
        self._database_probe: asyncio.Task[bool] | None = None
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for address in {each for replicas in self._addresses.values() for each in replicas}:
            channel = grpc.aio.insecure_channel(address, options=(("grpc.max_reconnect_backoff_ms", 1000),))
            await self._resources.enter_async_context(channel)
            self._stubs[address] = health_pb2_grpc.HealthStub(channel)
        if self._redis is not None:
            self._resources.push_async_callback(self._redis.aclose)
        self._resources.push_async_callback(self._close_database)
        loop = asyncio.create_task(self._probe_forever(), name="prober")
        self._resources.push_async_callback(_cancelled, loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def _close_database(self) -> None:
        """Not before the running probe has given its connection back, unless the server hangs."""
        if self._database_probe is not None:
            await asyncio.wait([self._database_probe], timeout=TIMEOUT_SECONDS)
        self._database.engine.dispose()

    async def _probe_forever(self) -> None:
        while True:
            before = self.snapshot.level, self.snapshot.missing()
            self.snapshot = await self.probe()
            level, missing = self.snapshot.level, self.snapshot.missing()
            if (level, missing) != before:
                logger.warning("health changed", extra={"level": level, "missing": missing})
            await asyncio.sleep(INTERVAL_SECONDS if level is Level.OK else IMPATIENT_INTERVAL_SECONDS)

    async def probe(self) -> Snapshot:
        """Probes everything at once."""
        names = [(name, address) for name, replicas in self._addresses.items() for address in replicas]
        database, room, redis, *replicas = await asyncio.gather(
            _timed(self._ask_database),
            _timed(self._ask_for_room),
            _timed(self._ask_redis),
            *(_timed(partial(self._ask_service, address)) for _, address in names),
        )
        services: dict[str, list[Probe]] = {name: [] for name in self._addresses}
        for (name, _), probe in zip(names, replicas, strict=True):
            services[name].append(probe)
        return Snapshot(database, room, redis, services)

    async def _ask_database(self) -> bool:
        """Whether it has room. A hanging server keeps its one thread; the next probe waits for the same answer."""
        if self._database_probe is None or self._database_probe.done():
            self._database_probe = asyncio.create_task(asyncio.to_thread(self._database.has_room))
            self._database_probe.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._database_probe)

    async def _ask_for_room(self) -> None:
        if not await self._ask_database():
            raise DiskFull

    async def _ask_redis(self) -> None:
        if self._redis is None:
            raise ConnectionError("no Redis is configured")
        await self._redis.ping()

    async def _ask_service(self, address: str) -> None:
        answer = await self._stubs[address].Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise ConnectionError("the service is draining")


async def _timed(ask: Callable[[], Awaitable[object]]) -> Probe:
    """How long the question took, or the kind of its failure; the text of an error may hold a host or a secret."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await ask()
    except DiskFull:
        return Probe(False, _milliseconds(started), "the disk is full: nothing can be stored")
    except Exception as error:
        message = "no answer in time" if isinstance(error, TimeoutError) else f"unreachable ({type(error).__name__})"
        return Probe(False, _milliseconds(started), message)
    return Probe(True, _milliseconds(started))


def _milliseconds(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
