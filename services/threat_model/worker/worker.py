"""The worker process: publishes events all the time, and deletes once an hour what is no longer kept."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from services.shared import rfc3339
from services.shared.database import Database, translate_database_error
from services.shared.metrics import ERRORS
from services.shared.settings import Settings
from services.threat_model.schema import CONSTRAINTS, metadata
from services.threat_model.worker import metrics, outbox, retention
from services.threat_model.worker.schedules import Schedule, run_if_due

logger = logging.getLogger(__name__)

OUTBOX_PAUSE_SECONDS = 1.0
"""Between two looks at the outbox."""
SCHEDULES_PAUSE_SECONDS = 60.0
"""Between two looks at what is due."""

PRUNE_EVERY = timedelta(hours=1)
PUBLISHED_EVENT_DAYS = 7


class Worker:
    """Two threads, so that pruning does not delay publishing. They survive every error and report it."""

    def __init__(self, database: Database, settings: Settings, publishers: Sequence[outbox.Publisher]) -> None:
        """publishers: who is handed each event, in this order."""
        self._database = database
        self._publishers = publishers
        self._drain_seconds = settings.drain_seconds
        self._schedules = [
            self._pruning(kind, prune, timedelta(days=days))
            for kind, prune, days in (
                ("operations", retention.prune_operations, settings.operation_log_retention_days),
                ("events", retention.prune_events, PUBLISHED_EVENT_DAYS),
                ("tombstones", retention.prune_tombstones(metadata), settings.tombstone_retention_days),
                ("audit_entries", retention.prune_audit_entries, settings.audit_retention_days),
            )
        ]
        self._stop = threading.Event()
        # Daemons: a statement that outlasts the drain dies with the process, and the database takes it back.
        self._threads = [
            threading.Thread(target=self._repeat, args=arguments, name=arguments[0], daemon=True)
            for arguments in (
                ("publish", self._publish, OUTBOX_PAUSE_SECONDS),
                ("prune", self._prune, SCHEDULES_PAUSE_SECONDS),
            )
        ]

    def start(self) -> None:
        """Begins to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Takes nothing new and returns when what was begun is finished, or the time to drain is over."""
        self._stop.set()
        deadline = time.monotonic() + self._drain_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _publish(self) -> None:
        waiting, since = self._database.read(outbox.backlog)
        while waiting and not self._stop.is_set():
            events = self._database.write(
                lambda connection: outbox.publish(connection, self._publishers, rfc3339.now())
            )
            if not events:  # other workers hold the rest
                break
            for event in events:
                metrics.PUBLISHED.labels(event.event_type).inc()
            waiting, since = self._database.read(outbox.backlog)
        metrics.BACKLOG_ROWS.set(waiting)
        metrics.BACKLOG_AGE.set((rfc3339.now() - since).total_seconds() if since else 0)
        metrics.LAST_SUCCESS.labels("publish").set_to_current_time()

    def _prune(self) -> None:
        for schedule in self._schedules:
            self._attempt(schedule.name, partial(self._run_if_due, schedule))

    def _run_if_due(self, schedule: Schedule) -> None:
        if done := run_if_due(self._database, schedule, rfc3339.now()):
            metrics.LAST_SUCCESS.labels(schedule.name).set(done.timestamp())

    def _pruning(self, kind: str, prune: retention.Prune, kept: timedelta) -> Schedule:
        def work(now: datetime) -> bool:
            total = 0
            while not self._stop.is_set():
                rows = prune(self._database, now - kept)
                if not rows:
                    logger.info("pruned", extra={"kind": kind, "rows": total, "kept_days": kept.days})
                    return True
                metrics.PRUNED.labels(kind).inc(rows)
                total += rows
            return False

        return Schedule(f"prune_{kind}", PRUNE_EVERY, work)

    def _repeat(self, name: str, work: Callable[[], None], pause_seconds: float) -> None:
        while not self._stop.is_set():
            self._attempt(name, work)
            self._stop.wait(pause_seconds)

    def _attempt(self, task: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if translate_database_error(error, CONSTRAINTS):
                logger.warning("the database is away", extra={"task": task, "error": type(error).__name__})
            else:
                ERRORS.labels(f"worker: {task}").inc()
                logger.exception("work failed", extra={"task": task})
