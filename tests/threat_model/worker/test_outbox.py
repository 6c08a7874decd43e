from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select

from services.shared import rfc3339
from services.shared.database import Database
from services.threat_model.audit.tables import outbox
from services.threat_model.worker.outbox import BATCH, Event, Publisher, backlog, publish
from tests.threat_model.worker.conftest import add_events, unpublished

NOW = rfc3339.now()


class Recorder:
    """A publisher that remembers what it was handed."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, connection: Connection, events: Sequence[Event]) -> None:
        self.numbers += [event.payload["number"] for event in events]


def publish_all(database: Database, *publishers: Publisher) -> list[int]:
    """Sizes of the batches."""
    sizes = []
    while events := database.write(lambda connection: publish(connection, publishers, NOW)):
        sizes.append(len(events))
    return sizes


def test_events_are_handed_to_every_publisher_once_and_in_order(database: Database) -> None:
    first, second = Recorder(), Recorder()
    add_events(database, 2 * BATCH + 5)
    assert publish_all(database, first, second) == [BATCH, BATCH, 5]
    assert first.numbers == second.numbers == list(range(2 * BATCH + 5))
    assert database.read(lambda connection: set(connection.scalars(select(outbox.c.published_at)))) == {NOW}
    assert publish_all(database, first) == []


def test_an_event_says_what_was_written_down(database: Database) -> None:
    add_events(database, 1, event_type="diagram.updated", payload={"version": 3, "actor": {"display_name": "Åsa"}})
    row = database.read(lambda connection: connection.execute(select(outbox)).one())
    (event,) = database.write(lambda connection: publish(connection, [], NOW))
    assert event == Event(row.id, "diagram.updated", row.root_id, row.object_id, row.payload, row.created_at)
    assert event.payload["actor"]["display_name"] == "Åsa"


def test_a_publisher_that_fails_leaves_the_batch_and_what_others_wrote_is_taken_back(database: Database) -> None:
    def writes(connection: Connection, events: Sequence[Event]) -> None:
        row = {"event_type": "written", "payload": {}, "created_at": NOW, "published_at": NOW}
        ids = {"root_id": events[0].root_id, "object_id": events[0].object_id}
        connection.execute(outbox.insert(), row | ids)

    def fails(connection: Connection, events: Sequence[Event]) -> None:
        raise RuntimeError("the receiver's rows are locked")

    add_events(database, 3)
    with pytest.raises(RuntimeError):
        publish_all(database, writes, fails)
    types = database.read(lambda connection: set(connection.scalars(select(outbox.c.event_type))))
    assert (types, unpublished(database)) == ({"threat.created"}, 3)
    recorder = Recorder()
    publish_all(database, recorder)
    assert recorder.numbers == [0, 1, 2]


def test_workers_pass_over_what_another_one_holds(postgresql: Database) -> None:
    add_events(postgresql, BATCH + 10)
    with postgresql.engine.begin() as held:
        assert len(publish(held, [], NOW)) == BATCH
        assert publish_all(postgresql) == [10]
        held.rollback()
    assert publish_all(postgresql) == [BATCH]


def test_the_backlog_tells_how_much_waits_and_since_when(database: Database) -> None:
    assert database.read(backlog) == (0, None)
    add_events(database, 3)
    waiting, since = database.read(backlog)
    assert (waiting, since is not None and since < rfc3339.now() - timedelta(minutes=2)) == (3, True)
    publish_all(database)
    assert database.read(backlog) == (0, None)
