"""Earlier states of a diagram's cells, read back from the database."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from services.shared import rfc3339
from services.shared.database import Database
from services.shared.errors import ApiError
from services.threat_model.cells.inverses import Row
from services.threat_model.cells.tables import diagram_cells
from services.threat_model.history.cells import cells_at
from services.threat_model.history.fold import fold_back
from services.threat_model.sequencer.tables import diagram_operations
from tests.threat_model.sequencer.conftest import World
from tests.threat_model.sequencer.test_cells import A, B, C, edge, entry, node
from tests.threat_model.sequencer.test_cells_properties import sensible
from tests.threat_model.sequencer.test_inverses import rest_cells
from tests.threat_model.sequencer.test_rest_writes import close, patch_cells

Count = Callable[[Database, Callable[[], Any]], list[str]]


def can_be_sent(change: Any) -> bool:
    """False for integers of more than 64 bits, which our own encoder does not write."""
    try:
        return bool(orjson.dumps(change))
    except TypeError:
        return False


def stored(connection: Connection, diagram_id: str) -> dict[str, Row]:
    query = select(diagram_cells).where(diagram_cells.c.diagram_id == diagram_id)
    return {row.cell_id: (row.position, row.data) for row in connection.execute(query)}


def at(world: World, vector: int) -> dict[str, Row]:
    return world.database.read(lambda connection: cells_at(connection, world.diagram_id, vector))


def now_stored(world: World) -> dict[str, Row]:
    return world.database.read(lambda connection: stored(connection, world.diagram_id))


def change_log(world: World, vector: int, **values: Any) -> None:
    row = (diagram_operations.c.diagram_id == world.diagram_id) & (diagram_operations.c.update_vector == vector)
    statement = diagram_operations.update().values(values) if values else diagram_operations.delete()
    with world.database.engine.begin() as connection:
        assert connection.execute(statement.where(row)).rowcount == 1


def refusal(world: World, vector: int) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        at(world, vector)
    return caught.value.status, caught.value.code


def test_a_cell_drawn_by_rest_and_removed_in_a_session_is_given_back(world: World) -> None:
    patch_cells(world, [node(A), node(B), edge(C)])
    drawn = now_stored(world)
    world.commit(world.operation(entry("remove", A)), world.operation(entry("remove", B)))
    assert now_stored(world) == {}
    assert at(world, 1) == drawn
    assert set(at(world, 2)) == {B}
    assert at(world, 0) == at(world, 3) == {}


@pytest.mark.parametrize("engine", ["postgresql", "sqlite"])
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(changes=st.lists((sensible | rest_cells).filter(can_be_sent), max_size=12))
def test_every_earlier_state_is_given_back_exactly(
    request: pytest.FixtureRequest, engine: str, changes: list[Any]
) -> None:
    world = World(request.getfixturevalue(engine))
    states = [now_stored(world)]
    for change in changes:
        if isinstance(change, list):
            if session_id := world.diagram().session_id:
                close(world, session_id)
            try:
                patch_cells(world, change)
            except ApiError:
                continue  # what no client can mean
        else:
            world.commit(world.operation(*change["cells"]))
        if world.diagram().update_vector == len(states):
            states.append(now_stored(world))
    assert world.diagram().update_vector == len(states) - 1
    for vector, state in enumerate(states):
        assert at(world, vector) == state


def test_operations_of_one_group_are_taken_back_one_by_one(world: World) -> None:
    world.commit(
        *(world.operation(entry("add" if number == 0 else "update", A, node(A, n=number))) for number in range(4))
    )
    assert [[orjson.loads(data)["n"] for _, data in at(world, vector).values()] for vector in range(5)] == [
        [],
        [0],
        [1],
        [2],
        [3],
    ]


def test_what_was_pruned_is_gone_and_what_was_not_is_there(world: World) -> None:
    world.commit(*(world.operation(entry("add", A, node(A, n=number))) for number in range(4)))
    change_log(world, 2)
    assert (set(at(world, 2)), set(at(world, 4))) == ({A}, {A})
    assert refusal(world, 1) == refusal(world, 0) == (410, "gone")


def test_changes_older_than_the_inverses_are_gone(world: World) -> None:
    world.commit(*(world.operation(entry("add", A, node(A, n=number))) for number in range(3)))
    change_log(world, 1, inverse=None)
    assert set(at(world, 1)) == {A}
    assert refusal(world, 0) == (410, "gone")


def test_a_vector_that_was_never_is_404(world: World) -> None:
    world.commit(world.operation(entry("add", A, node(A))))
    assert refusal(world, 2) == refusal(world, -1) == (404, "not_found")
    world.diagram_id = str(uuid.uuid4())
    assert refusal(world, 0) == (404, "not_found")


def test_a_deleted_diagram_still_has_its_history(world: World) -> None:
    world.commit(world.operation(entry("add", A, node(A))), world.operation(entry("remove", A)))
    world.set_diagram(deleted_at=rfc3339.now())
    assert set(at(world, 1)) == {A}


def test_reading_history_is_one_statement(world: World, count_statements: Count) -> None:
    world.commit(*(world.operation(entry("add", A, node(A))) for _ in range(5)))
    assert len(count_statements(world.database, partial(at, world, 0))) == 1


def test_a_log_with_a_hole_is_never_folded_over_it() -> None:
    added = '[{"id":"a","position":null,"data":null}]'
    present = {"a": (0, "{}")}
    assert fold_back(present, 3, [(3, "[]"), (2, added)], 1) == {}
    with pytest.raises(ApiError, match="from update_vector 2 on"):
        fold_back(present, 3, [(3, "[]"), (1, added)], 0)
    with pytest.raises(ApiError, match="from update_vector 3 on"):
        fold_back(present, 3, [], 2)
    assert fold_back(present, 3, [], 3) == present
