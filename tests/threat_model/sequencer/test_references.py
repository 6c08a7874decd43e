"""What names a cell follows it: other cells, and the threats that were recorded on it."""

import uuid
from typing import Any

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody
from sqlalchemy import insert, select

from services.shared import rfc3339
from services.shared.access import WRITER
from services.threat_model.audit.tables import audit_entries, outbox
from services.threat_model.children.tables import threats
from tests.threat_model.sequencer.conftest import World
from tests.threat_model.sequencer.test_cells import A, B, C, D, edge, entry, node
from tests.threat_model.sequencer.test_rest_writes import get, patch_cells, rest
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1 import diagrams_pb2


def new_threat(world: World, cell_id: str, **columns: Any) -> str:
    id_, now = str(uuid.uuid4()), rfc3339.now()
    with world.database.engine.begin() as connection:
        alias = len(connection.execute(select(threats.c.id)).all()) + 1
        connection.execute(
            insert(threats).values(
                {
                    "id": id_,
                    "threat_model_id": world.threat_model_id,
                    "alias": alias,
                    "name": "Spoofing",
                    "threat_type": [],
                    "mitigated": False,
                    "diagram_id": world.diagram_id,
                    "cell_id": cell_id,
                    "metadata": [],
                    "include_in_report": True,
                    "timmy_enabled": True,
                    "auto_generated": False,
                    "version": 1,
                    "created_at": now,
                    "modified_at": now,
                }
                | columns
            )
        )
    return id_


def named(world: World, *ids: str) -> list[tuple[str | None, int]]:
    """Cell and version of each threat."""
    with world.database.engine.connect() as connection:
        found = {row.id: (row.cell_id, row.version) for row in connection.execute(select(threats))}
    return [found[id_] for id_ in ids]


def records(world: World, threat_id: str) -> list[Any]:
    """Audit entries and events of a threat: what was lost, the version and who did it."""
    with world.database.engine.connect() as connection:
        entries = connection.execute(select(audit_entries).where(audit_entries.c.object_id == threat_id)).all()
        events = connection.execute(select(outbox).where(outbox.c.object_id == threat_id)).all()
    return [
        *((e.change_type, e.before, e.version, e.actor_provider_id, e.root_id) for e in entries),
        *((e.event_type, e.payload["version"], e.payload["actor"]["provider_id"], e.root_id) for e in events),
    ]


def forgotten(world: World, cell_id: str, by: Principal) -> list[Any]:
    return [
        ("updated", {"cell_id": cell_id}, 2, by.provider_id, world.threat_model_id),
        ("threat.updated", 2, by.provider_id, world.threat_model_id),
    ]


def put_cells(world: World, *cells: Any) -> Any:
    body = orjson.dumps({"name": "D", "type": "DFD-1.0.0", "cells": cells})
    return orjson.loads(
        rest(world, "ReplaceDiagram", diagrams_pb2.ReplaceDiagramRequest(body=HttpBody(data=body))).body
    )


def by_patch(world: World, *cells: Any) -> Any:
    return patch_cells(world, list(cells))


@pytest.mark.parametrize("write", [put_cells, by_patch])
def test_a_cell_that_a_rest_write_leaves_out_goes_with_all_its_names(world: World, write: Any) -> None:
    boundary = node(D, shape="security-boundary", children=[A, B, C])
    before = write(world, node(A, parent=D), node(B, parent=D), edge(C), boundary)
    on_node, on_edge, on_other = (new_threat(world, cell_id) for cell_id in (A, C, B))
    after = write(world, node(B, parent=D), edge(C.upper(), A.upper(), B), boundary)
    assert after["cells"] == get(world)["cells"] == [node(B, parent=D), boundary | {"children": [B]}]
    assert after["update_vector"] == before["update_vector"] + 1
    assert named(world, on_node, on_edge, on_other) == [(None, 2), (None, 2), (B, 1)]
    assert records(world, on_node) == forgotten(world, A, world.owner)
    assert records(world, on_edge) == forgotten(world, C, world.owner)
    freed = write(world, node(B, parent=D))
    assert freed["cells"] == [node(B)]


def test_names_of_cells_that_were_never_there_are_kept(world: World) -> None:
    waiting = new_threat(world, D)
    cells = [node(A, parent=D, children=[C]), edge(B, A, D)]
    assert put_cells(world, *cells, node(C))["cells"] == [*cells, node(C)]
    assert put_cells(world, *cells)["cells"] == [node(A, parent=D, children=[]), cells[1]]
    assert named(world, waiting) == [(D, 1)]


def test_a_removal_in_a_session_frees_the_threats_and_names_who_did_it(world: World) -> None:
    writer = world.new_principal("writer")
    world.grant(writer.user_id, WRITER)
    world.store_cells(node(A), node(B), edge(C), node(D))
    on_node, on_edge, on_other = (new_threat(world, cell_id) for cell_id in (A, C, B))
    on_fourth = new_threat(world, D)
    unplaced = new_threat(world, A, diagram_id=None)
    elsewhere = new_threat(world, A, diagram_id=world.new_diagram())
    others = new_threat(World(world.database), A, diagram_id=None)
    world.commit(
        world.operation(entry("remove", A), by=writer),
        world.operation(entry("update", B, {"zIndex": 1}), entry("remove", D)),
    )
    assert named(world, on_node, on_edge, on_fourth, unplaced) == [(None, 2)] * 4
    assert named(world, on_other, elsewhere, others) == [(B, 1), (A, 1), (A, 1)]
    assert records(world, on_node) == forgotten(world, A, writer)
    assert records(world, on_edge) == forgotten(world, C, writer)
    assert records(world, on_fourth) == forgotten(world, D, world.owner)
    assert records(world, on_other) == []


def test_a_cell_that_comes_back_in_the_same_group_keeps_its_threats(world: World) -> None:
    world.store_cells(node(A), node(B))
    kept, lost = new_threat(world, A), new_threat(world, B)
    world.commit(
        world.operation(entry("remove", A), entry("remove", B)),
        world.operation(entry("update", C, {})),  # rejected
        world.operation(entry("add", A, node(A))),
    )
    assert named(world, kept, lost) == [(A, 1), (None, 2)]


def test_a_rejected_removal_and_one_of_nothing_free_no_threat(world: World) -> None:
    world.store_cells(node(A))
    on_stored, on_absent = new_threat(world, A), new_threat(world, D)
    world.commit(world.operation(entry("remove", A), entry("update", C, {})), world.operation(entry("remove", D)))
    assert named(world, on_stored, on_absent) == [(A, 1), (D, 1)]
