"""Taking the calibrations: what one unit of each part costs now, in milliseconds of CPU."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Self

from deploy.embedded.process import PROJECT
from tests.load.load_client import LoadClient

CONNECTIONS = 8
SECONDS = 0.2
ROOM_SECONDS = 3.0


@dataclass(frozen=True)
class Units:
    """CPU milliseconds.

    http: the server's, for a small answer of a bare Starlette application. hop: caller's and
    server's, for an empty unary gRPC call between processes. select: the caller's, for a row by its
    key through SQLAlchemy Core and psycopg. delivery: the server's, for an event of a bare room
    to one socket; 0 where it was not asked for.
    """

    http: float
    hop: float
    select: float
    delivery: float = 0.0


def quiet(values: Iterable[float]) -> float:
    """The value that a fifth do not exceed: what else the machine does only ever adds to a cost."""
    ordered = sorted(values)
    return ordered[len(ordered) // 5]


def quiet_units(taken: Sequence[Units]) -> Units:
    """The quiet value of each unit."""
    return Units(*(quiet(getattr(each, unit.name) for each in taken) for unit in fields(Units)))


class Calibration:
    """Bare servers beside the measured system. A context manager. client: calls them, as it calls the system."""

    def __init__(self, client: LoadClient, database_url: str) -> None:
        self._client = client
        self._database_url = database_url
        self._running = ExitStack()
        self.taken: list[Units] = []
        """Every calibration so far."""

    def __enter__(self) -> Self:
        self._web, self._web_port = self._start("web_server")
        self._hop, self._hop_port = self._start("hop_server")
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def take(self, room: tuple[int, int, float, int] | None = None) -> Units:
        """Measures every unit once. room: sockets, senders, events a second and bytes of an event."""
        client = {"client": self._client.pid}
        http = self._client.run(
            {
                "kind": "requests",
                "host": "127.0.0.1",
                "port": self._web_port,
                "method": "GET",
                "paths": ["/"],
                "body": "",
                "content_type": "",
                "token": "",
                "connections": CONNECTIONS,
                "seconds": SECONDS,
            },
            {"server": self._web},
        )
        hop = self._client.run(
            {
                "kind": "hops",
                "address": f"127.0.0.1:{self._hop_port}",
                "connections": CONNECTIONS,
                "seconds": SECONDS,
            },
            {"server": self._hop} | client,
        )
        select = self._client.run(
            {
                "kind": "selects",
                "database_url": self._database_url,
                "connections": CONNECTIONS,
                "seconds": SECONDS,
            },
            client,
        )
        delivery = self._delivery(*room) if room else 0.0
        units = Units(http.milliseconds_each(), hop.milliseconds_each(), select.milliseconds_each(), delivery)
        self.taken.append(units)
        return units

    def _delivery(self, sockets: int, senders: int, rate: float, event_bytes: int) -> float:
        result = self._client.run(
            {
                "kind": "edits",
                "sockets": [f"ws://127.0.0.1:{self._web_port}/room?bytes={event_bytes}"] * sockets,
                "senders": senders,
                "rate": rate,
                "seconds": ROOM_SECONDS,
                "cells": ["a cell"],
            },
            {"server": self._web},
        )
        assert not result.problem, result.problem
        return result.milliseconds_each()

    def _start(self, module: str) -> tuple[int, int]:
        """Process id and port of a bare server."""
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.load.calibration.{module}"], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        )
        self._running.callback(process.wait, 10)
        self._running.callback(process.terminate)
        assert process.stdout is not None
        self._running.callback(process.stdout.close)
        return process.pid, int(process.stdout.readline())
