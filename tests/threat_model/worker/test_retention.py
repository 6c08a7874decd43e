"""What is pruned and what is kept."""

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, func, inspect, select, true

from services.shared import rfc3339
from services.shared.database import Database
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.audit.tables import audit_entries, outbox
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.children.tables import threats
from services.threat_model.resources.tables import NO_SCOPE, alias_counters
from services.threat_model.schema import metadata
from services.threat_model.sequencer.tables import diagram_operations
from services.threat_model.worker import retention
from tests.threat_model.sequencer.conftest import World
from tests.threat_model.sequencer.test_cells import A, B, entry, node
from tests.threat_model.sequencer.test_rest_writes import close, patch_cells
from tests.threat_model.worker.conftest import add_events

NOW = rfc3339.now()
BEFORE = NOW - timedelta(days=30)
OLD = BEFORE - timedelta(seconds=1)
prune_tombstones = retention.prune_tombstones(metadata)


def count(database: Database, table: Table, where: ColumnElement[bool] | None = None) -> int:
    query = select(func.count()).select_from(table).where(true() if where is None else where)
    return database.read(lambda connection: connection.execute(query).scalar_one())


def prune(database: Database, work: retention.Prune) -> list[int]:
    sizes = []
    while rows := work(database, BEFORE):
        sizes.append(rows)
    return sizes


def age(database: Database, table: Table, where: ColumnElement[bool] | None = None, **values: Any) -> None:
    statement = table.update().where(true() if where is None else where).values(values or {"created_at": OLD})
    with database.engine.begin() as connection:
        assert connection.execute(statement).rowcount


def vectors(world: World) -> list[int]:
    query = select(diagram_operations.c.update_vector).where(diagram_operations.c.diagram_id == world.diagram_id)
    return sorted(world.database.read(lambda connection: list(connection.scalars(query))))


# --- the operation log ------------------------------------------------------------------------


def test_old_operations_and_rest_writes_go_and_younger_ones_stay(world: World) -> None:
    patch_cells(world, [node(A)])
    world.commit(*(world.operation(entry("update", A, {"n": n})) for n in range(3)))
    close(world, world.diagram().session_id)
    age(world.database, diagram_operations, diagram_operations.c.update_vector <= 3)
    assert prune(world.database, retention.prune_operations) == [3]
    assert vectors(world) == [4]
    assert world.cells() == [node(A, n=2)]
    assert world.diagram().update_vector == 4


def test_the_operations_of_a_live_session_stay_however_old(world: World) -> None:
    patch_cells(world, [node(A)])
    world.commit(*(world.operation(entry("update", A, {"n": n})) for n in range(2)))
    age(world.database, diagram_operations)
    assert prune(world.database, retention.prune_operations) == [1]
    assert vectors(world) == [2, 3]
    assert world.read(1).complete
    close(world, world.diagram().session_id)
    assert prune(world.database, retention.prune_operations) == [2]


def test_a_log_of_any_length_goes_in_batches(world: World) -> None:
    row = {"diagram_id": world.diagram_id, "inverse": "[]", "created_at": OLD}
    with world.database.engine.begin() as connection:
        rows = [row | {"update_vector": vector} for vector in range(1, retention.BATCH + 11)]
        connection.execute(diagram_operations.insert(), rows)
    assert prune(world.database, retention.prune_operations) == [retention.BATCH, 10]


# --- events and audit entries -----------------------------------------------------------------


def test_published_events_go_and_what_waits_stays_however_old(database: Database) -> None:
    add_events(database, 3, created_at=OLD, published_at=OLD)
    add_events(database, 2, created_at=OLD, published_at=NOW)
    add_events(database, 1, created_at=OLD)
    assert prune(database, retention.prune_events) == [3]
    assert count(database, outbox) == 3
    assert count(database, outbox, outbox.c.published_at.is_(None)) == 1


def test_audit_entries_go_except_those_that_say_that_a_threat_model_was_deleted(database: Database) -> None:
    kinds = [("threat_model", "deleted"), ("threat_model", "patched"), ("threat", "deleted"), ("diagram", "created")]
    with database.engine.begin() as connection:
        connection.execute(
            audit_entries.insert(),
            [
                {
                    "id": str(uuid.uuid4()),
                    "root_id": (root_id := str(uuid.uuid4())),
                    "object_id": root_id if object_type == "threat_model" else str(uuid.uuid4()),
                    "object_type": object_type,
                    "change_type": change_type,
                    "version": 1,
                    **dict.fromkeys(("actor_email", "actor_provider", "actor_provider_id", "actor_display_name"), "x"),
                    "created_at": at,
                }
                for at in (OLD, NOW)
                for object_type, change_type in kinds
            ],
        )
    assert prune(database, retention.prune_audit_entries) == [3]
    left = database.read(
        lambda connection: connection.execute(
            select(audit_entries.c.object_type, audit_entries.c.change_type).where(audit_entries.c.created_at == OLD)
        ).all()
    )
    assert list(map(tuple, left)) == [("threat_model", "deleted")]
    assert count(database, audit_entries) == 5


# --- tombstones -------------------------------------------------------------------------------


def add_threat(world: World, **values: Any) -> str:
    id_ = str(uuid.uuid4())
    row: dict[str, Any] = {"id": id_, "threat_model_id": world.threat_model_id, "name": "Theft", "threat_type": []}
    row |= dict.fromkeys(("mitigated", "include_in_report", "timmy_enabled", "auto_generated"), False)
    row |= {"metadata": [], "version": 1, "created_at": NOW, "modified_at": NOW}
    with world.database.engine.begin() as connection:
        aliases = select(func.count()).select_from(threats).scalar_subquery()
        connection.execute(threats.insert().values(row | values | {"alias": aliases}))
    return id_


def test_a_threat_model_deleted_long_ago_goes_with_all_that_hangs_on_it(world: World) -> None:
    other = World(world.database)
    for each in (world, other):
        each.commit(each.operation(entry("add", A, node(A))), each.operation(entry("add", B, node(B))))
        add_threat(each, diagram_id=each.diagram_id)
        with each.database.engine.begin() as connection:
            counter = {"scope_id": each.threat_model_id, "kind": "threat", "next_alias": 2}
            connection.execute(alias_counters.insert(), counter)
    with world.database.engine.begin() as connection:
        connection.execute(alias_counters.insert(), {"scope_id": NO_SCOPE, "kind": "threat_model", "next_alias": 3})
    world.set_threat_model(deleted_at=OLD)
    world.set_diagram(deleted_at=OLD)
    audited = count(world.database, audit_entries)
    assert sum(prune(world.database, prune_tombstones)) == 2  # the diagram, then the threat model
    left = {table.name: count(world.database, table) for table in metadata.sorted_tables}
    assert left["threat_models"] == left["diagrams"] == left["threats"] == left["threat_model_access"] == 1
    assert (left["diagram_cells"], left["diagram_operations"], left["alias_counters"]) == (2, 2, 2)
    assert left["audit_entries"] == audited
    assert count(world.database, threat_models, threat_models.c.id == other.threat_model_id) == 1
    assert count(world.database, alias_counters, alias_counters.c.scope_id == other.threat_model_id) == 1
    assert {table.name for table in (diagram_cells, threat_model_access)} <= left.keys()


def test_a_deleted_child_goes_and_its_siblings_stay(world: World) -> None:
    old, young, live = add_threat(world, deleted_at=OLD), add_threat(world, deleted_at=NOW), add_threat(world)
    assert prune(world.database, prune_tombstones) == [1]
    left = world.database.read(lambda connection: set(connection.scalars(select(threats.c.id))))
    assert left == {young, live}
    assert old not in left


def test_what_is_restored_while_a_batch_runs_stays(world: World) -> None:
    first, second = add_threat(world, deleted_at=OLD), add_threat(world, deleted_at=OLD - timedelta(days=1))
    write = world.database.write
    restored: list[bool] = []

    def restore_before_the_next_one(work: Any) -> Any:
        result = write(work)
        if not restored:
            restored.append(True)
            age(world.database, threats, threats.c.id == first, deleted_at=None)
        return result

    world.database.write = restore_before_the_next_one  # type: ignore[method-assign, assignment]
    try:
        assert prune(world.database, prune_tombstones) == [1]
    finally:
        world.database.write = write  # type: ignore[method-assign]
    left = world.database.read(lambda connection: set(connection.scalars(select(threats.c.id))))
    assert (first in left, second in left) == (True, False)


def test_every_table_with_soft_deletes_is_pruned_and_what_refers_to_one_goes_or_forgets(database: Database) -> None:
    pruned = {table.name for table in retention.tables_with_tombstones(metadata)}
    with database.engine.connect() as connection:
        inspector = inspect(connection)
        schema = metadata.schema if database.engine.name == "postgresql" else None
        names = inspector.get_table_names(schema)
        columns = {name: {column["name"] for column in inspector.get_columns(name, schema)} for name in names}
        assert {name for name in names if "deleted_at" in columns[name]} == pruned
        assert {threat_models.name, diagrams.name, threats.name} <= pruned
        for name in names:
            for key in inspector.get_foreign_keys(name, schema):
                if key["referred_table"] in pruned:
                    assert key["options"].get("ondelete") in ("CASCADE", "SET NULL"), (name, key["name"])
