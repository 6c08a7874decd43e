"""Prints what a committed operation costs: `python -m tests.threat_model.sequencer.commit_cost`.

CPU is that of this process (the service's share), the time that of the whole commit on a real
PostgreSQL that does not wait for the disk; one thread, a diagram of 200 cells, drag messages.
"""

import itertools
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from deploy.embedded.postgres import EmbeddedPostgres
from services.shared import migrations
from services.shared.database import Database
from services.threat_model.schema import SCHEMA
from tests.threat_model.sequencer.conftest import MIGRATIONS, World
from tests.threat_model.sequencer.test_cells import entry, node

SECONDS = 3.0


def measure(world: World, size: int) -> tuple[float, float]:
    """CPU seconds and seconds per operation, in groups of `size`."""
    session_id = world.open().session.session_id
    ids = [str(cell["id"]) for cell in world.cells()]
    places = itertools.count()
    drag: Callable[[], dict[str, object]] = lambda: {  # noqa: E731
        "shape": "process",
        "position": {"x": next(places), "y": 7},
        "size": {"width": 140, "height": 60},
    }
    groups = [
        [world.operation(entry("update", ids[next(places) % len(ids)], drag())) for _ in range(size)]
        for _ in range(2000 // size)
    ]
    done = 0
    cpu, wall = time.process_time(), time.perf_counter()
    for group in groups:
        done += len(world.commit(*group, session_id=session_id).results)
        if time.perf_counter() - wall > SECONDS:
            break
    return (time.process_time() - cpu) / done, (time.perf_counter() - wall) / done


def main() -> None:
    """Prints a line for each size of group."""
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory) / "data", durable=False)
        database = Database(server.url("cost"), SCHEMA)
        try:
            migrations.upgrade(database, MIGRATIONS)
            world = World(database)
            world.store_cells(*(node(str(uuid.uuid4()), data={"_metadata": []}) for _ in range(200)))
            measure(world, 10)
            sys.stdout.write("group   CPU ms/operation   ms/operation   operations per CPU second\n")
            for size in (1, 10, 50):
                cpu, wall = measure(world, size)
                sys.stdout.write(f"{size:5}   {cpu * 1e3:16.3f}   {wall * 1e3:12.3f}   {1 / cpu:25.0f}\n")
        finally:
            database.engine.dispose()
            server.stop()


if __name__ == "__main__":
    main()
