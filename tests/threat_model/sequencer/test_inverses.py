"""Every change of a diagram's cells leaves its exact inverse."""

import copy
import shutil
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from services.shared import migrations, rfc3339
from services.shared.database import Database
from services.shared.errors import ApiError
from services.threat_model.cells import inverses
from services.threat_model.cells import rows as cell_rows
from services.threat_model.cells.inverses import Row
from services.threat_model.cells.normalisation import normalised_cells
from services.threat_model.cells.operations import OperationRejected, apply_operation
from services.threat_model.schema import SCHEMA
from services.threat_model.sequencer.loading import changes, last_inverse, loaded_cells
from services.threat_model.sequencer.tables import diagram_operations
from tests.threat_model.sequencer.conftest import MIGRATIONS, World
from tests.threat_model.sequencer.test_cells import A, B, C, D, edge, entry, node
from tests.threat_model.sequencer.test_cells_properties import IDS, edges, nodes, sensible
from tests.threat_model.sequencer.test_rest_writes import close, patch_cells, rest
from tmi.threat_model.v1 import diagrams_pb2


def log(world: World) -> list[Any]:
    with world.database.engine.connect() as connection:
        query = select(diagram_operations).where(diagram_operations.c.diagram_id == world.diagram_id)
        return list(connection.execute(query.order_by(diagram_operations.c.update_vector)))


def image(cell_id: str, position: int | None = None, data: Any = None) -> dict[str, Any]:
    return {"id": cell_id, "position": position, "data": data}


def test_operations_of_one_group_on_one_cell_have_each_their_own_inverse(world: World) -> None:
    world.store_cells(node(B), node(A))
    world.commit(
        world.operation(entry("update", A, {"zIndex": 1}), entry("update", A, {"zIndex": 2})),
        world.operation(entry("update", A, {"zIndex": 9}), entry("update", D, {})),  # rejected
        world.operation(entry("update", A, {"zIndex": 3})),
        world.operation(entry("remove", A)),
        world.operation(entry("add", A, node(A))),
    )
    assert [orjson.loads(row.inverse) for row in log(world)] == [
        [image(A, 10, node(A))],
        [{"id": A, "position": 10, "members": {"zIndex": 2}}],
        [image(A, 10, node(A, zIndex=3))],
        [image(A)],
    ]


def test_the_inverse_of_a_removal_holds_all_that_went_with_it(world: World) -> None:
    world.store_cells(edge(C), node(A), node(B, parent=A))
    world.commit(world.operation(entry("remove", A)))
    (row,) = log(world)
    assert sorted(orjson.loads(row.inverse), key=lambda image: image["position"]) == [
        image(C, 0, edge(C)),
        image(A, 10, node(A)),
        image(B, 20, node(B, parent=A)),
    ]


def test_the_removal_of_what_is_not_there_has_an_empty_inverse(world: World) -> None:
    world.commit(world.operation(entry("remove", A)))
    assert [row.inverse for row in log(world)] == ["[]"]


def test_a_rest_write_is_a_row_of_the_log_without_an_operation(world: World) -> None:
    patch_cells(world, [node(A), node(B)])
    patch_cells(world, [node(B, zIndex=1), node(A)])
    rows = log(world)
    assert [row.update_vector for row in rows] == [1, 2]
    assert [orjson.loads(row.inverse) for row in rows] == [
        [image(A), image(B)],
        [image(B, 1, node(B)), {"id": A, "position": 0, "members": {}}],
    ]
    for row in rows:
        assert row.operation is row.operation_id is row.socket_id is row.initiating_user is row.session_id is None


def test_put_leaves_an_inverse_too(world: World) -> None:
    patch_cells(world, [node(A), node(B)])
    body = orjson.dumps({"name": "x", "type": "DFD-1.0.0", "cells": [node(A)]})
    rest(world, "ReplaceDiagram", diagrams_pb2.ReplaceDiagramRequest(body=HttpBody(data=body)))
    assert orjson.loads(log(world)[-1].inverse) == [image(B, 1, node(B))]


def test_a_write_that_changes_no_cell_has_no_row(world: World) -> None:
    patch_cells(world, [node(A)])
    patch_cells(world, [node(A)])
    body = orjson.dumps([{"op": "replace", "path": "/name", "value": "x"}])
    rest(world, "PatchDiagram", diagrams_pb2.PatchDiagramRequest(body=HttpBody(data=body)))
    assert [row.update_vector for row in log(world)] == [1] == [world.diagram().update_vector]


def test_every_vector_has_exactly_one_row_and_rest_writes_are_gaps_to_readers(world: World) -> None:
    patch_cells(world, [node(A)])
    operations = [world.operation(entry("update", A, {"zIndex": number})) for number in range(2)]
    world.commit(*operations)
    close(world, world.diagram().session_id)
    patch_cells(world, [node(B)])
    assert [row.update_vector for row in log(world)] == [1, 2, 3, 4]
    assert not world.read(0).complete
    assert not world.read(2).complete
    assert [operation.update_vector for operation in world.read(1, limit=2).operations] == [2, 3]
    assert [result.committed.update_vector for result in world.commit(*operations).results] == [2, 3]


def test_a_rest_write_that_fails_leaves_no_row(world: World) -> None:
    with pytest.raises(ApiError):
        patch_cells(world, [node(A), node(B, shape="cloud")])
    assert log(world) == []


def test_rows_older_than_the_migration_stay_and_have_no_inverse(database: Database, tmp_path: Path) -> None:
    older = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, older)
    for path in (older / "versions").glob("*.py"):
        if not path.name.startswith("0001"):
            path.unlink()
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
    operation_id, now = str(uuid.uuid4()), rfc3339.now()
    with old.engine.begin() as connection:
        connection.execute(
            diagram_operations.insert()
            .inline()
            .values(
                diagram_id=world.diagram_id,
                update_vector=1,
                operation_id=operation_id,
                socket_id="socket",
                initiating_user="{}",
                operation='{"type":"patch","cells":[]}',
                created_at=now,
            )
        )
    world.set_diagram(update_vector=1)
    migrations.upgrade(old, MIGRATIONS)
    assert [(row.operation_id, row.inverse) for row in log(world)] == [(operation_id, None)]
    assert [operation.operation_id for operation in world.read(0).operations] == [operation_id]
    world.commit(world.operation(entry("add", A, node(A))))
    patch_cells_after_session(world)
    assert [row.update_vector for row in log(world)] == [1, 2, 3]
    with old.engine.begin() as connection:  # what hangs on a diagram still goes with it
        connection.execute(text(f"DELETE FROM {'' if old.engine.name == 'sqlite' else SCHEMA + '.'}diagrams"))
    assert log(world) == []
    old.engine.dispose()


def patch_cells_after_session(world: World) -> None:
    close(world, world.diagram().session_id)
    patch_cells(world, [node(B)])


# --- any sequence of changes ------------------------------------------------------------------

rest_cells = st.lists(
    st.builds(lambda id_, cell: {"id": id_} | cell, st.sampled_from(IDS), nodes | edges),
    unique_by=lambda cell: str(cell["id"]),
    max_size=6,
)
odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
odd_cells = st.builds(
    lambda id_, value: [{"id": id_, "shape": "actor", "odd": value}], st.sampled_from(IDS), odd_values
)


def replaced(present: dict[str, Row], cells: list[Any]) -> tuple[inverses.Rows, str]:
    ordered = sorted(present.values())
    stored, positions = [orjson.loads(data) for _, data in ordered], [place for place, _ in ordered]
    after, before = cell_rows.replacement(stored, positions, normalised_cells(cells))
    return after, inverses.encode(before, after)


def operated(present: dict[str, Row], operation: Any) -> tuple[inverses.Rows, str]:
    loaded = loaded_cells((cell_id, *row) for cell_id, row in present.items())
    apply_operation(loaded.cells, copy.deepcopy(operation))
    return changes(loaded), last_inverse(loaded.cells)


@settings(deadline=None)
@given(st.lists(sensible | rest_cells | odd_cells, max_size=15))
def test_inverses_lead_back_through_every_earlier_state(steps: list[Any]) -> None:
    present: dict[str, Row] = {}
    history: list[tuple[dict[str, Row], str]] = []
    for step in steps:
        try:
            after, inverse = (replaced if isinstance(step, list) else operated)(present, step)
        except (OperationRejected, ValueError):  # what cannot be stored
            continue
        history.append((dict(present), inverse))
        now: dict[str, Row | None] = {**present, **after}
        present = {cell_id: row for cell_id, row in now.items() if row}
    for earlier, inverse in reversed(history):
        inverses.take_back(present, inverse)
        assert present == earlier


@pytest.mark.parametrize(
    ("before", "after", "members"),
    [
        ('{"id":"a","x":1,"y":2}', '{"id":"a","x":1,"y":3}', {"y": 2}),
        ('{"id":"a","x":1}', '{"id":"a","x":1.0}', {"x": 1}),
        ('{"id":"a","x":true}', '{"id":"a","x":1}', {"x": True}),
        ('{"id":"a","x":{"b":1,"c":2}}', '{"id":"a","x":{"c":2,"b":1}}', {"x": {"b": 1, "c": 2}}),
        ('{"id":"a","x":null}', '{"id":"a","x":0}', {"x": None}),
        ('{"id":"a","x":1}', '{"id":"a"}', None),
        ('{"id":"a"}', '{"id":"a","x":1}', None),
        ('{"id":"a","x":1,"y":2}', '{"id":"a","y":2,"x":1}', None),
    ],
)
def test_only_the_members_that_changed_are_kept_where_that_gives_the_same_text(
    before: str, after: str, members: Any
) -> None:
    inverse = inverses.encode({"a": (1, before)}, {"a": (2, after)})
    (kept,) = orjson.loads(inverse)
    assert kept == {"id": "a", "position": 1} | (
        {"data": orjson.loads(before)} if members is None else {"members": members}
    )
    cells = {"a": (2, after)}
    inverses.take_back(cells, inverse)
    assert cells == {"a": (1, before)}


def test_a_cell_that_was_put_as_it_was_is_not_in_the_inverse(world: World) -> None:
    world.commit(world.operation(entry("add", A, node(A))), world.operation(entry("update", A, node(A))))
    assert [row.inverse for row in log(world)] == [orjson.dumps([image(A)]).decode(), "[]"]
