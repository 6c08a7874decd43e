"""What a session may store is bounded by what newcomers can be sent."""

import shutil
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from services.shared import migrations
from services.shared.database import Database
from services.threat_model.cells.cell_set import CellSet
from services.threat_model.cells.operations import OperationRejected, apply_operation
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.limits import MAX_DIAGRAM_BYTES, MAX_MODEL_CELLS_BYTES, MAX_OPERATION_BYTES
from services.threat_model.schema import SCHEMA
from services.threat_model.sequencer import commit, operation_log
from tests.threat_model.sequencer.conftest import MIGRATIONS, World
from tests.threat_model.sequencer.test_cells import A, B, C, edge, entry, node, patch
from tests.threat_model.sequencer.test_cells_properties import sensible
from tests.threat_model.sequencer.test_commit import new_ids, outcomes
from tests.threat_model.sequencer.test_rest_writes import close, get, patch_cells
from tmi.threat_model.v1 import sequencer_pb2 as messages


def stored_bytes(world: World) -> int:
    with world.database.engine.connect() as connection:
        texts = connection.scalars(select(diagram_cells.c.data).where(diagram_cells.c.diagram_id == world.diagram_id))
        return sum(len(data.encode()) for data in texts)


def test_the_diagram_row_counts_the_bytes_of_its_cells(world: World) -> None:
    def check() -> None:
        assert world.diagram().cells_bytes == stored_bytes(world)

    opened = world.open().session
    world.commit(
        world.operation(entry("add", A, node(A, label="é😀\u2028"))), world.operation(entry("add", B, node(B)))
    )
    check()
    world.commit(
        world.operation(entry("update", B, {"label": "日本" * 100})),
        world.operation(entry("update", A, {"label": None}), entry("update", C, {})),  # rejected
        world.operation(entry("add", C, edge(C)), entry("remove", A), entry("add", A, node(A, parent=B))),
    )
    check()
    world.commit(world.operation(entry("remove", B)))
    check()
    assert world.diagram().cells_bytes > 0
    close(world, opened.session_id)
    patch_cells(world, [node(A, label="ü"), node(B)])
    check()


@settings(max_examples=50)
@given(st.lists(sensible, max_size=8), st.integers(200, 2000))
def test_a_set_knows_its_size_and_never_grows_beyond_its_limit(operations: list[Any], most: int) -> None:
    cells = CellSet()
    cells.most_bytes = most
    for operation in operations:
        before = cells.bytes
        try:
            apply_operation(cells, operation)
        except OperationRejected:
            assert cells.bytes == before
        assert cells.bytes == sum(len(orjson.dumps(cell)) for cell in cells.in_order())
        assert cells.bytes <= max(before, most)


def test_additions_beyond_the_size_of_a_diagram_are_rejected_and_newcomers_still_get_its_state(
    concurrent_world: World,
) -> None:
    world = concurrent_world
    ids = new_ids(MAX_DIAGRAM_BYTES // 100_000 + 5)
    answers = [
        result
        for start in range(0, len(ids), 10)
        for result in world.commit(
            *(world.operation(entry("add", id_, node(id_, text="x" * 100_000))) for id_ in ids[start : start + 10])
        ).results
    ]
    accepted = [result for result in answers if result.outcome == messages.Outcome.OUTCOME_ACCEPTED]
    rejected = answers[len(accepted) :]
    assert len(accepted) == MAX_DIAGRAM_BYTES // 100_200
    assert {(result.reason, result.requires_resync) for result in rejected} == {("validation_failed", False)}
    assert len(orjson.loads(world.state().cells)) == len(accepted)
    assert get(world)["update_vector"] == len(accepted)
    small = world.commit(
        world.operation(entry("update", ids[0], {"text": ""})), world.operation(entry("add", A, node(A)))
    )
    assert outcomes(small) == ["ACCEPTED", "ACCEPTED"]


def test_the_cells_of_all_diagrams_of_the_model_count(world: World) -> None:
    world.commit(world.operation(entry("add", A, node(A, text="x" * 1000))))
    other = world.new_diagram()

    def other_has(size: int) -> None:
        with world.database.engine.begin() as connection:
            connection.execute(update(diagrams).where(diagrams.c.id == other).values(cells_bytes=size))

    own = world.diagram().cells_bytes
    other_has(MAX_MODEL_CELLS_BYTES - own - 500)
    grow, shrink = entry("update", A, {"more": "x" * 600}), entry("update", A, {"text": ""})
    response = world.commit(world.operation(grow), world.operation(shrink), world.operation(grow))
    assert outcomes(response) == ["REJECTED", "ACCEPTED", "ACCEPTED"]
    other_has(MAX_MODEL_CELLS_BYTES)
    moved, larger = entry("update", A, {"x": 7}), entry("update", A, {"x": 77})
    assert outcomes(world.commit(world.operation(moved), world.operation(larger))) == ["ACCEPTED", "REJECTED"]


def test_an_operation_that_changes_too_much_at_once_is_rejected(concurrent_world: World) -> None:
    world = concurrent_world
    ids = new_ids(30)
    world.store_cells(*(node(id_, text="x" * 100_000) for id_ in ids))
    entries = [entry("update", id_, {"z": 1}) for id_ in ids]
    fits = MAX_OPERATION_BYTES // 100_300
    response = world.commit(world.operation(*entries), world.operation(*entries[:fits]))
    assert outcomes(response) == ["REJECTED", "ACCEPTED"]
    assert response.results[0].reason == "validation_failed"


def test_the_answer_to_a_group_is_bounded_before_its_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "MAX_ANSWER_BYTES", MAX_OPERATION_BYTES + 1500)
    ids = new_ids(4)
    group = [world.operation(entry("add", id_, node(id_, text="x" * 1000))) for id_ in ids]
    response = world.commit(*group)
    assert outcomes(response) == ["ACCEPTED", "ACCEPTED", "REJECTED", "REJECTED"]
    assert response.update_vector == 2
    assert outcomes(world.commit(*group[2:])) == ["ACCEPTED", "ACCEPTED"]


def test_the_log_is_read_in_parts_that_can_be_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.commit(*(world.operation(entry("add", id_, node(id_, text="é" * 500))) for id_ in new_ids(7)))
    (first, *_) = world.read(0).operations
    monkeypatch.setattr(operation_log, "MAX_READ_BYTES", 2 * len(first.operation) + 1)
    read: list[int] = []
    while len(read) < 7:
        part = world.read(len(read))
        assert (part.complete, part.update_vector) == (True, 7)
        assert len(part.operations) == min(3, 7 - len(read))
        read += [operation.update_vector for operation in part.operations]
    assert read == [1, 2, 3, 4, 5, 6, 7]
    assert len(world.read(0, limit=2).operations) == 2
    monkeypatch.setattr(operation_log, "MAX_READ_BYTES", 1)
    assert [operation.update_vector for operation in world.read(3).operations] == [4]
    world.set_diagram(update_vector=9)
    assert not world.read(7).complete


def test_operations_are_bounded_as_a_whole_only() -> None:
    cells = CellSet()
    big = patch(*(entry("add", id_, node(id_, text="x" * 200_000)) for id_ in new_ids(11)))
    with pytest.raises(OperationRejected) as caught:
        apply_operation(cells, big)
    assert (caught.value.reason, cells.bytes, len(cells)) == ("validation_failed", 0, 0)


def test_the_migration_counts_the_cells_that_are_there(database: Database, tmp_path: Path) -> None:
    older = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, older)
    (older / "versions" / "0004_cells_bytes.py").unlink()
    url = database.engine.url
    if database.engine.name == "sqlite":
        old = Database(f"sqlite:///{tmp_path / 'old.db'}", SCHEMA)
    else:
        name = f"old_{uuid.uuid4().hex}"
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        plain = url.set(drivername="postgresql", database=name)
        old = Database(plain.render_as_string(hide_password=False), SCHEMA)
    migrations.upgrade(old, older)
    world = World(old)
    world.store_cells(node(A, label="é😀"), node(B))
    empty = world.new_diagram()
    migrations.upgrade(old, MIGRATIONS)
    assert world.diagram().cells_bytes == stored_bytes(world)
    world.diagram_id = empty
    assert world.diagram().cells_bytes == 0
    old.engine.dispose()
