"""`make bench`: measures a private system and prints the table. Exit code 1 when a floor is not reached."""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from deploy.demo.client import Person
from deploy.embedded.process import StartFailure
from deploy.embedded.stack import Stack
from tests.load.measuring import LoadClient, Measurement, median, settle
from tests.load.seeding import Seeded, multiply_foreign_model, seed, shared_diagram

CONNECTIONS = 8
WINDOWS = 3
SECONDS = 2.5
WARM_UP_SECONDS = 1.5

SOCKETS = 50
SOCKETS_OF_ONE_PERSON = 5
OPERATIONS_PER_SECOND = 20
EDITING_SECONDS = 15

GET_ONE_FLOOR = 800
DELIVERIES_FLOOR = 15_000
"""Per CPU second of the gateway, which delivers; what committing costs does not depend on who watches."""
FOREIGN_MODELS = (100, 1_000, 10_000)
FLAT_WITHIN = 1.25
"""The list is flat when it costs at most this many times as much among 10,000 models as among 100."""

_GET_ONE = "get one threat model"
_EDITS = f"collaboration, {SOCKETS} sockets"


def main() -> int:
    """Runs every measurement."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="tmi-bench-") as directory,
            console.status("Starting a system of its own …") as status,
            Stack(Path(directory)) as stack,
            LoadClient(stack) as client,
        ):
            bench = Bench(stack, client)
            rows = []
            for row in bench.run():
                rows.append(row)
                status.update(f"{row.name}: {row.throughput:,.0f}/s …")
    except StartFailure as failure:
        Console(stderr=True).print(f"[red]make bench:[/] {failure}")
        return 1
    return 0 if _print(console, rows) else 1


class Bench:
    """The measurements in their order."""

    def __init__(self, stack: Stack, client: LoadClient) -> None:
        self._stack = stack
        self._client = client
        # By address, not by name: the client should not measure name resolution.
        self._port = urlsplit(stack.gateway_urls[0]).port
        self._token = ""

    def run(self) -> Iterator[Measurement]:
        """Yields a row at a time."""
        seeded = asyncio.run(self._seed())
        yield self._requests("root", "GET", "/")
        yield self._requests(_GET_ONE, "GET", seeded.model_path)
        for count in FOREIGN_MODELS:
            multiply_foreign_model(self._stack.database_url, seeded.foreign_model_id, count)
            yield self._requests(_list_name(count), "GET", "/threat_models")
        threat = '{"name":"Load {n}","threat_type":["Tampering"],"severity":"high"}'
        yield self._requests("create threat", "POST", seeded.threats_path, body=threat, expected_status=201)
        patch = '[{"op":"replace","path":"/description","value":"Changed {n} times"}]'
        yield self._requests("patch threat", "PATCH", *seeded.threat_paths, body=patch)
        yield asyncio.run(self._edits())

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

    def _requests(self, name: str, method: str, *paths: str, body: str = "", expected_status: int = 200) -> Measurement:
        """Each connection keeps to one of the paths. Measured in several windows, of which the middle one counts."""
        content_type = "application/json-patch+json" if method == "PATCH" else "application/json"
        job: dict[str, Any] = {
            "kind": "requests",
            "host": "127.0.0.1",
            "port": self._port,
            "method": method,
            "paths": paths,
            "body": body,
            "content_type": content_type,
            "token": self._token,
            "connections": CONNECTIONS,
        }
        self._client.run(name, job | {"seconds": WARM_UP_SECONDS}, expected_status)
        windows = []
        for _ in range(WINDOWS):
            settle(self._stack)
            windows.append(self._client.run(name, job | {"seconds": SECONDS}, expected_status))
        return median(windows)

    async def _edits(self) -> Measurement:
        people = SOCKETS // SOCKETS_OF_ONE_PERSON
        async with AsyncExitStack() as resources:
            host, *others = [
                await resources.enter_async_context(Person(f"editor-{number:02}", self._stack.gateway_urls[0]))
                for number in range(people)
            ]
            for person in (host, *others):
                await person.log_in()
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
            return await asyncio.to_thread(self._client.run, _EDITS, job)


def _list_name(foreign: int) -> str:
    return f"list 20 among {foreign:,} foreign models"


def _print(console: Console, rows: list[Measurement]) -> bool:
    table = Table(title=f"{CONNECTIONS} keep-alive connections; times in milliseconds; CPU of gateway and services")
    table.add_column("operation", no_wrap=True)
    for title in ("per s", "p50", "p99", "CPU each", "per CPU s", "floor", "stores' CPU each"):
        table.add_column(title, justify="right", no_wrap=True)
    floors = {_GET_ONE: GET_ONE_FLOOR}
    good = True
    for row in rows:
        floor = floors.get(row.name)
        reached = floor is None or row.per_cpu_second >= floor
        good = good and reached and not row.problem
        colour = "green" if reached else "red"
        table.add_row(
            row.name,
            f"{row.throughput:,.0f}",
            f"{row.quantile(0.5):.2f}",
            f"{row.quantile(0.99):.2f}",
            f"{row.milliseconds_each(row.cpu.system):.3f}",
            f"[{colour}]{row.per_cpu_second:,.0f}[/]",
            "" if floor is None else f"≥ {floor:,}",
            f"{row.milliseconds_each(row.cpu.stores):.3f}",
        )
    console.print(table)
    by_name = {row.name: row for row in rows}
    few, many = by_name[_list_name(FOREIGN_MODELS[0])], by_name[_list_name(FOREIGN_MODELS[-1])]
    ratio = _cost_of_each(many) / _cost_of_each(few)
    flat = ratio <= FLAT_WITHIN
    colour = "green" if flat else "red"
    console.print(
        f"The list costs [{colour}]{ratio:.2f}[/] times as much CPU, stores included, among "
        f"{FOREIGN_MODELS[-1]:,} foreign models as among {FOREIGN_MODELS[0]:,} (floor: ≤ {FLAT_WITHIN})."
    )
    edits = by_name[_EDITS]
    fan_out = edits.count / edits.cpu.by_label["gateway-1"]
    delivers = fan_out >= DELIVERIES_FLOOR
    console.print(
        f"The gateway delivers [{'green' if delivers else 'red'}]{fan_out:,.0f}[/] events for each CPU second "
        f"of its own (floor: ≥ {DELIVERIES_FLOOR:,})."
    )
    spent = ", ".join(f"{label} {seconds:.2f}" for label, seconds in edits.cpu.by_label.items() if seconds > 0.005)
    console.print(f"CPU seconds for {edits.count:,} deliveries in {edits.elapsed:.0f} s: {spent}.")
    for row in rows:
        if row.problem:
            console.print(f"[red]{row.name}: {row.problem}[/]")
    return good and flat and delivers


def _cost_of_each(row: Measurement) -> float:
    return (row.cpu.system + row.cpu.stores) / row.count


if __name__ == "__main__":
    sys.exit(main())
