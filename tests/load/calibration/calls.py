"""Jobs of the load client that are measured for what they cost the caller itself."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, bindparam, create_engine, select

from tests.load.calibration.hop_server import METHOD
from tests.load.cpu import cpu_seconds

_ROWS = Table("calibration", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text), schema="public")
_SELECT = select(_ROWS.c.text).where(_ROWS.c.id == bindparam("wanted"))
_engines: dict[str, Engine] = {}


async def make_hops(job: dict[str, Any]) -> dict[str, Any]:
    """Keeps `connections` empty unary calls under way to `address` for `seconds`."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(job["address"]) as channel:
        call = channel.unary_unary(
            METHOD, request_serializer=Empty.SerializeToString, response_deserializer=Empty.FromString
        )
        await call(Empty())
        cpu_before = cpu_seconds(job["pids"])
        started = time.perf_counter()
        end = started + job["seconds"]

        async def keep_calling() -> None:
            while (before := time.perf_counter()) < end:
                await call(Empty())
                latencies.append(time.perf_counter() - before)

        await asyncio.gather(*(keep_calling() for _ in range(job["connections"])))
        elapsed = time.perf_counter() - started
        return {"latencies": latencies, "elapsed": elapsed, "cpu": [cpu_before, cpu_seconds(job["pids"])]}


async def make_selects(job: dict[str, Any]) -> dict[str, Any]:
    """Reads single rows by their key for `seconds`, in as many threads as there are `connections`.

    In one thread alone a SELECT costs whatever it costs to wake a core, which varies twofold.
    """
    if job["database_url"] not in _engines:
        engine = create_engine(job["database_url"], isolation_level="AUTOCOMMIT", pool_size=job["connections"])
        with engine.connect() as connection:
            _ROWS.metadata.create_all(connection)
            connection.execute(_ROWS.insert(), [{"id": number, "text": f"row {number}"} for number in range(100)])
        _engines[job["database_url"]] = engine
    engine = _engines[job["database_url"]]
    latencies: list[float] = []
    cpu_before = cpu_seconds(job["pids"])
    started = time.perf_counter()
    end = started + job["seconds"]

    def keep_reading() -> None:
        while (before := time.perf_counter()) < end:
            with engine.connect() as connection:
                connection.execute(_SELECT, {"wanted": len(latencies) % 100}).scalar_one()
            latencies.append(time.perf_counter() - before)

    with ThreadPoolExecutor(job["connections"]) as threads:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(threads, keep_reading) for _ in range(job["connections"])))
    elapsed = time.perf_counter() - started
    return {"latencies": latencies, "elapsed": elapsed, "cpu": [cpu_before, cpu_seconds(job["pids"])]}
