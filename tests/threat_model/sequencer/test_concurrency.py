"""Many at once on PostgreSQL, and transactions that fail half-way."""

import random
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import orjson
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError

from services.shared.database import Database
from services.threat_model.audit.tables import audit_entries, outbox
from services.threat_model.cells.operations import fold
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.sequencer.tables import diagram_operations
from tests.threat_model.sequencer.conftest import World
from tests.threat_model.sequencer.test_cells import A, B, C, edge, entry, node
from tests.threat_model.sequencer.test_sessions import waits_for_lock
from tmi.threat_model.v1 import sequencer_pb2 as messages

ACCEPTED, REPEATED = messages.Outcome.OUTCOME_ACCEPTED, messages.Outcome.OUTCOME_REPEATED


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    barrier = Barrier(count)

    def start(index: int) -> Any:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


def random_entries(chance: random.Random, ids: Sequence[str]) -> list[dict[str, Any]]:
    entries = []
    for cell_id in chance.sample(ids, chance.randint(1, 3)):
        number = ids.index(cell_id)
        if number % 3 == 2:
            data = edge(cell_id, ids[number - 1], ids[number - 2])
        else:
            data = node(cell_id, zIndex=chance.randint(0, 9))
        kind = chance.choice(["add", "add", "update", "remove"])
        entries.append(entry(kind, cell_id) if kind == "remove" else entry(kind, cell_id, data))
    return entries


def test_operations_of_many_threads_are_numbered_without_gap_and_applied_once(concurrent_world: World) -> None:
    world = concurrent_world
    session_id = world.open().session.session_id
    ids = [str(uuid.uuid4()) for _ in range(9)]
    shared = [world.operation(*random_entries(random.Random(seed), ids)) for seed in range(20)]

    def work(seed: int) -> list[messages.OperationResult]:
        chance = random.Random(seed)
        results: list[messages.OperationResult] = []
        for _ in range(15):
            group = [world.operation(*random_entries(chance, ids)) for _ in range(chance.randint(1, 5))]
            group += chance.sample(shared, 2)  # the same operations arrive through several replicas
            chance.shuffle(group)
            results += world.commit(*group, session_id=session_id).results
        return results

    results = [result for part in in_threads(6, work) for result in part]
    accepted = sorted(
        (result.committed for result in results if result.outcome == ACCEPTED), key=lambda item: item.update_vector
    )
    assert [item.update_vector for item in accepted] == list(range(1, len(accepted) + 1))
    assert len({item.operation_id for item in accepted}) == len(accepted)
    by_id = {item.operation_id: item for item in accepted}
    repeated = [result.committed for result in results if result.outcome == REPEATED]
    assert repeated
    assert all(by_id[item.operation_id] == item for item in repeated)

    log = world.read(0)
    assert log.complete
    assert list(log.operations) == accepted
    folded: dict[str, Any] = {}
    for item in accepted:
        fold(folded, orjson.loads(item.operation))
    state = world.state()
    assert orjson.loads(state.cells) == list(folded.values())
    assert state.update_vector == len(accepted)


def test_a_reader_never_sees_cells_and_vector_of_different_moments(concurrent_world: World) -> None:
    world = concurrent_world
    session_id = world.open().session.session_id
    world.commit(world.operation(entry("add", A, node(A, zIndex=1))))

    def write(_: int) -> None:
        for vector in range(2, 40):
            world.commit(world.operation(entry("update", A, {"zIndex": vector})), session_id=session_id)

    def read(_: int) -> None:
        vector = 0
        while vector < 39:
            state = world.state()
            log = world.read(0)
            vector = state.update_vector
            assert orjson.loads(state.cells)[0]["zIndex"] == vector
            assert log.complete
            assert len(log.operations) == log.update_vector

    in_threads(3, lambda index: write(index) if index == 0 else read(index))


def test_a_commit_and_a_rest_write_wait_for_each_other(concurrent_world: World) -> None:
    world = concurrent_world
    session_id = world.open().session.session_id
    with ThreadPoolExecutor(1) as pool, world.database.engine.begin() as rest:
        row = diagrams.c.id == world.diagram_id
        vector = rest.execute(select(diagrams.c.update_vector).where(row).with_for_update()).scalar_one()
        committing = pool.submit(world.commit, world.operation(entry("update", A, {"z": 1})), session_id=session_id)
        waits_for_lock(world)
        rest.execute(
            diagram_cells.insert().values(
                diagram_id=world.diagram_id, cell_id=A, position=0, data=orjson.dumps(node(A)).decode()
            )
        )
        rest.execute(diagrams.update().where(row).values(update_vector=vector + 1))
        rest.commit()
        (result,) = committing.result().results
    assert (result.outcome, result.committed.update_vector) == (ACCEPTED, 2)
    assert world.cells() == [node(A, z=1)]


def test_a_session_that_ends_while_a_commit_waits_refuses_it(concurrent_world: World) -> None:
    world = concurrent_world
    session_id = world.open().session.session_id
    with ThreadPoolExecutor(1) as pool, world.database.engine.begin() as closing:
        row = diagrams.c.id == world.diagram_id
        closing.execute(diagrams.update().where(row).values(session_id=None))
        committing = pool.submit(world.commit, world.operation(entry("remove", A)), session_id=session_id)
        waits_for_lock(world)
        closing.commit()
        assert committing.result().session_ended
    assert world.diagram().update_vector == 0


def test_replicas_that_touch_the_same_sessions_do_not_deadlock(concurrent_world: World) -> None:
    worlds = [World(concurrent_world.database) for _ in range(6)]
    session_ids = [world.open().session.session_id for world in worlds]

    def touch(index: int) -> None:
        for _ in range(20):
            order = session_ids if index % 2 else session_ids[::-1]
            request = messages.TouchSessionsRequest(session_ids=order)
            assert set(concurrent_world.call("TouchSessions", request).session_ids) == set(session_ids)

    before = deadlocks(concurrent_world.database)
    in_threads(4, touch)
    assert deadlocks(concurrent_world.database) == before


def deadlocks(database: Database) -> int:
    with database.engine.connect() as connection:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.exec_driver_sql(query).scalar_one())


def everything(world: World) -> list[Any]:
    """All that a commit may change, as rows."""
    with world.database.engine.connect() as connection:
        return [
            connection.execute(select(diagrams).where(diagrams.c.id == world.diagram_id)).all(),
            connection.execute(select(diagram_cells).where(diagram_cells.c.diagram_id == world.diagram_id)).all(),
            connection.execute(
                select(diagram_operations).where(diagram_operations.c.diagram_id == world.diagram_id)
            ).all(),
            connection.execute(select(func.count()).select_from(audit_entries)).scalar(),
            connection.execute(select(func.count()).select_from(outbox)).scalar(),
        ]


def test_a_failure_between_any_two_statements_changes_nothing(world: World) -> None:
    world.store_cells(node(A), edge(C))
    session_id = world.open().session.session_id
    before = everything(world)
    group = (
        world.operation(entry("update", A, {"zIndex": 1}), entry("add", B, node(B))),
        world.operation(entry("remove", C)),
    )
    failures = 0
    while fails_at(world, failures + 1, lambda: world.commit(*group, session_id=session_id)):
        failures += 1
        assert everything(world) == before
    assert failures == (4 if world.database.engine.name == "postgresql" else 8)  # every statement of the group once
    assert world.cells() == [node(A, zIndex=1), node(B)]
    again = world.commit(*group, session_id=session_id)
    assert [result.outcome for result in again.results] == [REPEATED, REPEATED]


def fails_at(world: World, statement_number: int, work: Callable[[], Any]) -> bool:
    """Runs the work; its n-th statement fails as when the server goes away. False when it has fewer."""
    seen = 0

    def fail(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        nonlocal seen
        seen += not statement.startswith("BEGIN")
        if seen == statement_number:
            raise OperationalError(statement, parameters, Exception("the server is gone"))

    event.listen(world.database.engine, "before_cursor_execute", fail)
    try:
        work()
    except OperationalError:
        return True
    finally:
        event.remove(world.database.engine, "before_cursor_execute", fail)
    return False
