"""The load-making process: `python -m tests.load.client` reads one JSON job a line and answers one line each.

It is a process of its own so that its CPU time is not the system's.
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

from tests.load.connection import LoadConnection, encode_request


async def make_requests(job: dict[str, Any]) -> dict[str, Any]:
    """Keeps `connections` busy for `seconds`. `{n}` in a body becomes a number of its own each time."""
    connections = [await LoadConnection.open(job["host"], job["port"]) for _ in range(job["connections"])]
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    numbers = count()
    origin = f"{job['host']}:{job['port']}"
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
    for connection in connections:
        connection.close()
    return {"latencies": latencies, "elapsed": elapsed, "statuses": dict(statuses)}


async def make_edits(job: dict[str, Any]) -> dict[str, Any]:
    """Opens all `sockets`; the first `senders` of them send `rate` operations a second in all for `seconds`."""
    sockets = [await connect(url, max_size=None, compression=None, proxy=None) for url in job["sockets"]]
    sent_at: dict[str, float] = {}
    latencies: list[float] = []
    arrived: Counter[str] = Counter()
    refused: list[str] = []
    everything = asyncio.Event()
    expected = int(job["rate"] * job["seconds"]) * (len(sockets) - 1)

    async def listen(socket: ClientConnection) -> None:
        async for text in socket:
            now = time.perf_counter()
            message = orjson.loads(text)
            if message["message_type"] == "diagram_operation_event":
                arrived[message["operation_id"]] += 1
                latencies.append(now - sent_at[message["operation_id"]])
                if len(latencies) == expected:
                    everything.set()
            elif message["message_type"] in ("operation_rejected", "authorization_denied", "error"):
                refused.append(str(message))

    listeners = [asyncio.create_task(listen(socket)) for socket in sockets]
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
            "base_vector": 0,
            "operation": {"type": "patch", "cells": [change]},
        }
        sent_at[operation_id] = time.perf_counter()
        await sockets[number % job["senders"]].send(orjson.dumps(message).decode())
    try:
        await asyncio.wait_for(everything.wait(), 10)
    except TimeoutError:
        refused.append(f"only {len(latencies)} of {expected} deliveries arrived")
    elapsed = time.perf_counter() - started
    await asyncio.gather(*(socket.close() for socket in sockets))
    await asyncio.gather(*listeners)
    return {"latencies": latencies, "elapsed": elapsed, "refused": refused[:3]}


_KINDS = {"requests": make_requests, "edits": make_edits}


def main() -> None:
    """Answers jobs until stdin ends."""
    for line in sys.stdin:
        job = json.loads(line)
        result = uvloop.run(_KINDS[job["kind"]](job))
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
