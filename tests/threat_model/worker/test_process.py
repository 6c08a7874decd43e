"""Real worker processes on real stores: what they publish, prune, tell and survive."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select, text

from services.shared import rfc3339
from services.shared.database import Database
from services.threat_model.audit.tables import outbox
from services.threat_model.children.tables import threats
from services.threat_model.sequencer.tables import diagram_operations
from services.threat_model.worker.outbox import BATCH
from services.threat_model.worker.tables import schedules
from tests.threat_model.sequencer.conftest import World
from tests.threat_model.sequencer.test_cells import A, entry, node
from tests.threat_model.worker.conftest import add_events, unpublished
from tests.threat_model.worker.test_retention import add_threat, age, vectors

OLD = rfc3339.now() - timedelta(days=1000)
PRUNINGS = {"prune_operations", "prune_events", "prune_tombstones", "prune_audit_entries"}


@dataclass
class Running:
    """A worker process that answers."""

    process: "subprocess.Popen[bytes]"
    metrics_port: int
    log: Path

    def metric(self, name: str, **labels: str) -> float | None:
        """The present value of a metric, None when it has none yet."""
        page = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        return next((each.value for each in samples if each.name == name and each.labels == labels), None)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


Start = Callable[[], Running]


@pytest.fixture
def start(project: Path, database: Database, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker on the test's database and returns when it serves."""
    with _starting(project, database, tmp_path) as begin:
        yield begin


@contextmanager
def _starting(project: Path, database: Database, folder: Path) -> Iterator[Start]:
    running: list[Running] = []
    url = database.engine.url.set(drivername=database.engine.name).render_as_string(hide_password=False)

    def begin() -> Running:
        port, metrics_port = free_port(), free_port()
        log = folder / f"worker-{len(running)}.log"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{project}:{project}/build/stubs",
            "TMI_DATABASE_URL": url,
            "TMI_GRPC_PORT": str(port),
            "TMI_METRICS_PORT": str(metrics_port),
        }
        with log.open("wb") as stderr:
            command = [sys.executable, "-m", "services.threat_model", "work"]
            process = subprocess.Popen(command, cwd=project, env=environment, stderr=stderr)
        running.append(Running(process, metrics_port, log))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = HealthStub(channel).Check(HealthCheckRequest(), wait_for_ready=True, timeout=30)
        assert answer.status == HealthCheckResponse.SERVING
        return running[-1]

    try:
        yield begin
    finally:
        for each in running:
            if each.process.poll() is None:
                each.end(signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def eventually(condition: Callable[[], bool], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pruned(database: Database) -> bool:
    query = select(schedules.c.name)
    return database.read(lambda connection: set(connection.scalars(query))) == PRUNINGS


def test_it_publishes_prunes_tells_and_stops_on_sigterm(world: World, start: Start) -> None:
    database = world.database
    add_events(database, 3)
    add_events(database, 2, created_at=OLD, published_at=OLD)
    world.commit(world.operation(entry("add", A, node(A))), world.operation(entry("update", A, {"n": 1})))
    age(database, diagram_operations, diagram_operations.c.update_vector == 1, created_at=OLD)
    world.set_diagram(session_id=None)
    gone, kept = add_threat(world, deleted_at=OLD), add_threat(world)
    worker = start()
    eventually(lambda: unpublished(database) == 0 and pruned(database))
    add_events(database, 4, event_type="diagram.updated")  # while it runs
    eventually(lambda: unpublished(database) == 0)
    left = database.read(lambda connection: set(connection.scalars(select(threats.c.id))))
    assert (gone in left, kept in left) == (False, True)
    assert vectors(world) == [2]
    assert database.read(lambda connection: connection.scalar(select(func.count()).select_from(outbox))) == 7
    eventually(lambda: worker.metric("tmi_outbox_published_total", event_type="diagram.updated") == 4)
    assert worker.metric("tmi_outbox_published_total", event_type="threat.created") == 3
    assert worker.metric("tmi_pruned_rows_total", kind="events") == 2
    assert worker.metric("tmi_pruned_rows_total", kind="operations") == 1
    assert worker.metric("tmi_pruned_rows_total", kind="tombstones") == 1
    eventually(lambda: worker.metric("tmi_outbox_backlog_rows") == 0)
    assert worker.metric("tmi_outbox_backlog_age_seconds") == 0
    for task in ("publish", *PRUNINGS):
        moment = worker.metric("tmi_worker_last_success_timestamp_seconds", task=task)
        assert moment is not None
        assert moment > OLD.timestamp()
    assert worker.end() == 0
    lines = worker.log.read_text()
    assert '"service":"worker"' in lines
    assert '"level":"error"' not in lines


def test_a_killed_worker_loses_nothing(world: World, start: Start) -> None:
    killed = start()
    add_events(world.database, 5 * BATCH)
    eventually(lambda: unpublished(world.database) < 5 * BATCH)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    add_events(world.database, 5)
    start()
    eventually(lambda: unpublished(world.database) == 0)


def test_a_worker_outlives_its_database(postgresql: Database, project: Path, tmp_path: Path) -> None:
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with _starting(project, postgresql, tmp_path) as start:
        worker = start()
        eventually(lambda: pruned(postgresql))
        with postgresql.engine.begin() as connection:
            connection.exec_driver_sql(terminate)
        postgresql.engine.dispose()
        add_events(postgresql, 3)
        eventually(lambda: unpublished(postgresql) == 0)
        assert worker.end() == 0


# Publishing a row is one transaction with marking it, so that marks tell who published what. Every mark waits for
# lock 1: a test that holds it has the workers stand still in the midst of a batch.
_WATCH_MARKS = """
CREATE TABLE marks (event_id bigint, backend int);
CREATE FUNCTION note_mark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    INSERT INTO public.marks VALUES (NEW.id, pg_backend_pid());
    RETURN NEW;
END $$;
CREATE TRIGGER note_mark BEFORE UPDATE OF published_at ON threat_model.outbox FOR EACH ROW EXECUTE FUNCTION note_mark();
"""
_WAITING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database "
    "WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
)


def test_two_workers_publish_every_event_once_and_share_the_work(
    postgresql: Database, project: Path, tmp_path: Path
) -> None:
    with postgresql.engine.begin() as connection:
        connection.exec_driver_sql(_WATCH_MARKS)
    with _starting(project, postgresql, tmp_path) as start:
        workers = [start(), start()]
        with postgresql.engine.connect() as hold:
            hold.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
            hold.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
            add_events(postgresql, 6 * BATCH)
            eventually(lambda: _scalar(postgresql, _WAITING) == 2)  # both are in the midst of a batch of their own
        eventually(lambda: unpublished(postgresql) == 0)
        assert [worker.end() for worker in workers] == [0, 0]
    assert _scalar(postgresql, "SELECT count(*) FROM marks") == 6 * BATCH
    assert _scalar(postgresql, "SELECT count(DISTINCT event_id) FROM marks") == 6 * BATCH
    assert _scalar(postgresql, "SELECT count(DISTINCT backend) FROM marks") >= 2


def test_the_batch_of_a_worker_that_is_killed_is_published_by_the_other_one(
    postgresql: Database, project: Path, tmp_path: Path
) -> None:
    with postgresql.engine.begin() as connection:
        connection.exec_driver_sql(_WATCH_MARKS)
    with _starting(project, postgresql, tmp_path) as start:
        with postgresql.engine.connect() as hold:
            hold.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
            hold.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
            add_events(postgresql, 2 * BATCH)
            killed = start()
            eventually(lambda: _scalar(postgresql, _WAITING) == 1)
            other = start()
            eventually(lambda: _scalar(postgresql, _WAITING) == 2)
            assert killed.end(signal.SIGKILL) == -signal.SIGKILL
            assert unpublished(postgresql) == 2 * BATCH
        eventually(lambda: unpublished(postgresql) == 0)
        assert other.end() == 0
    assert _scalar(postgresql, "SELECT count(*) FROM marks") == 2 * BATCH
    assert _scalar(postgresql, "SELECT count(DISTINCT backend) FROM marks") == 1


def test_sigterm_lets_the_batch_in_hand_finish(postgresql: Database, project: Path, tmp_path: Path) -> None:
    with postgresql.engine.begin() as connection:
        connection.exec_driver_sql(_WATCH_MARKS)
    with _starting(project, postgresql, tmp_path) as start:
        with postgresql.engine.connect() as hold:
            hold.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
            hold.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
            add_events(postgresql, 3 * BATCH)
            worker = start()
            eventually(lambda: _scalar(postgresql, _WAITING) == 1)
            worker.process.send_signal(signal.SIGTERM)
            eventually(lambda: '"msg":"draining"' in worker.log.read_text())
            assert psutil.pid_exists(worker.process.pid)
        assert worker.process.wait(30) == 0
    assert unpublished(postgresql) == 2 * BATCH


def _scalar(database: Database, query: str) -> int:
    return int(database.read(lambda connection: connection.execute(text(query)).scalar_one()))
