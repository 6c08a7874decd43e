"""The measurements: requests over keep-alive connections, and edits of a diagram that many watch.

Each is taken in many short windows with a calibration before and after each, and the quiet ones of
both are compared: what else the machine does only ever adds to a cost.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from deploy.demo.client import Person
from deploy.embedded.stack import Stack
from tests.load.calibration.units import CONNECTIONS, Calibration, quiet, quiet_units
from tests.load.limits import COMMIT, CREATE, DELIVER, FOREIGN_MODELS, GET_ONE, PATCH, ROOT, list_name
from tests.load.load_client import LoadClient, Result
from tests.load.seeding import Seeded, multiply_foreign_model, seed, shared_diagram

WINDOWS = 15
SECONDS = 0.4
WARM_UP_SECONDS = 1.5

SOCKETS = 50
SOCKETS_OF_ONE_PERSON = 5
OPERATIONS_PER_SECOND = 20
EDITING_WINDOWS = 5
EDITING_SECONDS = 4

_STORES = ("postgres-1", "valkey-1")
_GATEWAY = ("gateway-1",)
_COMMITTERS = ("collaboration-1", "threat-model-1")


@dataclass(frozen=True)
class Row:
    """One row of the table.

    cost: CPU milliseconds of gateway and services for one operation. bare: what its parts cost
    without the product. stores: CPU milliseconds of PostgreSQL and Valkey.
    """

    name: str
    result: Result
    cost: float
    bare: float
    stores: float

    @property
    def ratio(self) -> float:
        """How many times as much as its bare parts."""
        return self.cost / self.bare


class Bench:
    """The measurements in their order."""

    def __init__(self, stack: Stack, client: LoadClient, calibration: Calibration) -> None:
        self._stack = stack
        self._client = client
        self._calibration = calibration
        # By address, not by name: the client should not measure name resolution.
        self._port = urlsplit(stack.gateway_urls[0]).port
        self._token = ""

    def run(self) -> Iterator[Row]:
        """Yields a row at a time."""
        seeded = asyncio.run(self._seed())
        yield self._requests(ROOT, "GET", "/")
        yield self._requests(GET_ONE, "GET", seeded.model_path, statements=1)
        for count in FOREIGN_MODELS:
            multiply_foreign_model(self._stack.database_url, seeded.foreign_model_id, count)
            yield self._requests(list_name(count), "GET", "/threat_models", statements=1)
        threat = '{"name":"Load {n}","threat_type":["Tampering"],"severity":"high"}'
        yield self._requests(CREATE, "POST", seeded.threats_path, body=threat, statements=4)
        patch = '[{"op":"replace","path":"/description","value":"Changed {n} times"}]'
        yield self._requests(PATCH, "PATCH", *seeded.threat_paths, body=patch, statements=3)
        yield from asyncio.run(self._edits())

    async def _seed(self) -> Seeded:
        async with AsyncExitStack() as people:
            first, caller, stranger, *participants = [
                await people.enter_async_context(Person(name, self._stack.gateway_urls[0]))
                for name in ("administrator", "caller", "stranger", "reader-one", "reader-two", "reader-three")
            ]
            for person in (first, caller, stranger, *participants):
                await person.log_in()
            self._token = caller.access_token
            return await seed(caller, stranger, participants, CONNECTIONS)

    def _requests(self, name: str, method: str, *paths: str, body: str = "", statements: int = 0) -> Row:
        """Each connection keeps to one of the paths. statements: that the operation sends to the database."""
        job: dict[str, Any] = {
            "kind": "requests",
            "host": "127.0.0.1",
            "port": self._port,
            "method": method,
            "paths": paths,
            "body": body,
            "content_type": "application/json-patch+json" if method == "PATCH" else "application/json",
            "token": self._token,
            "connections": CONNECTIONS,
        }
        expected_status = 201 if method == "POST" else 200
        self._client.run(job | {"seconds": WARM_UP_SECONDS}, {}, expected_status)
        calibrations, results = [self._calibration.take()], []
        for _ in range(WINDOWS):
            results.append(self._client.run(job | {"seconds": SECONDS}, self._stack.pids(), expected_status))
            calibrations.append(self._calibration.take())
        units = quiet_units(calibrations)
        system = [label for label in results[0].cpu if label not in _STORES]
        return _row(name, results, system, units.http + units.hop + statements * units.select)

    async def _edits(self) -> list[Row]:
        people = SOCKETS // SOCKETS_OF_ONE_PERSON
        results, calibrations = [], []
        async with AsyncExitStack() as resources:
            host, *others = [
                await resources.enter_async_context(Person(f"editor-{number:02}", self._stack.gateway_urls[0]))
                for number in range(people)
            ]
            for person in (host, *others):
                await person.log_in()
            for _ in range(EDITING_WINDOWS):
                threat_model_id, diagram_id, cells = await shared_diagram(host, others)
                urls = [
                    await person.socket_url(threat_model_id, diagram_id)
                    for person in (host, *others)
                    for _ in range(SOCKETS_OF_ONE_PERSON)
                ]
                job = {
                    "kind": "edits",
                    "sockets": urls,
                    "senders": people,
                    "rate": OPERATIONS_PER_SECOND,
                    "seconds": EDITING_SECONDS,
                    "cells": cells,
                }
                results.append(await asyncio.to_thread(self._client.run, job, self._stack.pids()))
                room = (SOCKETS, people, OPERATIONS_PER_SECOND, results[-1].event_bytes)
                calibrations.append(await asyncio.to_thread(self._calibration.take, room))
        units = quiet_units(calibrations)
        return [
            _row(DELIVER, results, _GATEWAY, units.delivery),
            _row(COMMIT, results, _COMMITTERS, units.hop + 3 * units.select, times=SOCKETS - 1),
        ]


def _row(name: str, results: Sequence[Result], labels: Sequence[str], bare: float, *, times: int = 1) -> Row:
    """times: answers or deliveries for one operation. A window with a problem wins over the quiet one."""
    costs = [result.milliseconds_each(labels) * times for result in results]
    cost = quiet(costs)
    shown = next((result for result in results if result.problem), results[costs.index(cost)])
    return Row(name, shown, cost, bare, shown.milliseconds_each(_STORES) * times)
