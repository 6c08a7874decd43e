"""The load-making process: `python -m tests.load.client` reads one JSON job a line and answers one line each.

It is a process of its own so that its CPU time is not the system's. A job names the processes whose
CPU time it reads right before and right after what it measures: `pids`, by label.
"""

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from itertools import count, cycle
from typing import Any

import orjson
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from tests.load.calibration.calls import make_hops, make_selects
from tests.load.connection import LoadConnection, encode_request
from tests.load.cpu import cpu_seconds


async def make_requests(job: dict[str, Any]) -> dict[str, Any]:
    """Keeps `connections` busy for `seconds`. `{n}` in a body becomes a number of its own each time."""
    connections = [await LoadConnection.open(job["host"], job["port"]) for _ in range(job["connections"])]
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    numbers = count()
    origin = f"{job['host']}:{job['port']}"
    cpu_before = cpu_seconds(job["pids"])
    started = time.perf_counter()
    end = started + job["seconds"]

    async def keep_busy(connection: LoadConnection, path: str) -> None:
        while (before := time.perf_counter()) < end:
            body = job["body"].replace("{n}", str(next(numbers)))
            request = encode_request(job["method"], path, origin, job["token"], body, job["content_type"])
            statuses[await connection.exchange(request)] += 1
            latencies.append(time.perf_counter() - before)

    await asyncio.gather(*map(keep_busy, connections, cycle(job["paths"])))
    elapsed = time.perf_counter() - started
    cpu = [cpu_before, cpu_seconds(job["pids"])]
    for connection in connections:
        connection.close()
    return {"latencies": latencies, "elapsed": elapsed, "cpu": cpu, "statuses": dict(statuses)}


async def make_edits(job: dict[str, Any]) -> dict[str, Any]:
    """Opens all `sockets`; the first `senders` of them send `rate` operations a second in all for `seconds`."""
    sockets = [await connect(url, max_size=None, compression=None, proxy=None) for url in job["sockets"]]
    sent_at: dict[str, float] = {}
    newest_vector = [0] * len(sockets)
    latencies: list[float] = []
    refused: list[str] = []
    event_bytes = 0
    everything = asyncio.Event()
    expected = int(job["rate"] * job["seconds"]) * (len(sockets) - 1)

    async def listen(number: int, socket: ClientConnection) -> None:
        nonlocal event_bytes
        async for text in socket:
            now = time.perf_counter()
            message = orjson.loads(text)
            newest_vector[number] = max(newest_vector[number], message.get("update_vector", 0))
            if message["message_type"] == "diagram_operation_event":
                if message["operation_id"] not in sent_at:  # a correction
                    continue
                event_bytes = len(text)
                latencies.append(now - sent_at[message["operation_id"]])
                if len(latencies) == expected:
                    everything.set()
            elif message["message_type"] in ("operation_rejected", "authorization_denied", "error"):
                refused.append(str(message))

    listeners = [asyncio.create_task(listen(*each)) for each in enumerate(sockets)]
    cpu_before = cpu_seconds(job["pids"])
    started = time.perf_counter()
    for number in range(int(job["rate"] * job["seconds"])):
        await asyncio.sleep(max(0.0, started + number / job["rate"] - time.perf_counter()))
        operation_id = str(uuid.uuid4())
        position = {"x": number % 1000, "y": number % 700}
        cell_id = job["cells"][number % len(job["cells"])]
        change = {"id": cell_id, "operation": "update", "data": {"id": cell_id, "position": position}}
        message = {
            "message_type": "diagram_operation_request",
            "operation_id": operation_id,
            "base_vector": newest_vector[number % job["senders"]],
            "operation": {"type": "patch", "cells": [change]},
        }
        sent_at[operation_id] = time.perf_counter()
        await sockets[number % job["senders"]].send(orjson.dumps(message).decode())
    try:
        await asyncio.wait_for(everything.wait(), 10)
    except TimeoutError:
        refused.append(f"only {len(latencies)} of {expected} deliveries arrived")
    elapsed = time.perf_counter() - started
    cpu = [cpu_before, cpu_seconds(job["pids"])]
    await asyncio.gather(*(socket.close() for socket in sockets))
    await asyncio.gather(*listeners)
    return {
        "latencies": latencies,
        "elapsed": elapsed,
        "cpu": cpu,
        "refused": refused[:3],
        "event_bytes": event_bytes,
    }


_KINDS = {"requests": make_requests, "edits": make_edits, "hops": make_hops, "selects": make_selects}


async def answer_jobs() -> None:
    """Answers jobs until stdin ends. One loop for all: gRPC's asyncio API does not survive its loop."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        job = json.loads(line)
        result = await _KINDS[job["kind"]](job)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(answer_jobs())
