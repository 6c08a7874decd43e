"""Deletions and writes of what refers to each other at the same moment: one order of locks, no deadlock."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import ExceptionContext, event

from services.shared.errors import ApiError
from tests.threat_model.api import Api, node
from tests.threat_model.test_concurrency import at_once

CELLS = [f"6d5ef7b2-0000-4000-8000-0000000000{number:02x}" for number in range(4)]


@pytest.fixture
def deadlocks(api: Api) -> Iterator[list[str]]:
    """SQLSTATE of every deadlock that the database ended during the test: a retry hides it from the caller."""
    seen: list[str] = []

    def note(context: ExceptionContext) -> None:
        if (state := getattr(context.original_exception, "sqlstate", None)) == "40P01":
            seen.append(state)

    event.listen(api.database.engine, "handle_error", note)
    yield seen
    event.remove(api.database.engine, "handle_error", note)


def test_a_diagram_is_deleted_while_its_threats_are_written(api: Api, deadlocks: list[str]) -> None:
    for _ in range(12):
        tm = api.new_threat_model()["id"]
        diagram = api.diagram(tm, *(node(cell) for cell in CELLS))
        threats = [api.threat(tm, diagram_id=diagram["id"], cell_id=cell) for cell in CELLS]
        other = api.diagram(tm, node(CELLS[0]))["id"]

        def write(threat: Any, tm: str = tm, diagram: Any = diagram, other: str = other) -> Any:
            scope = {"threat_model_id": tm, "threat_id": threat["id"]}
            api.ReplaceThreat({"name": "Put", "diagram_id": other}, **scope)
            api.PatchThreat([{"op": "replace", "path": "/name", "value": "Patched"}], **scope)
            return api.PatchThreat([{"op": "replace", "path": "/diagram_id", "value": diagram["id"]}], **scope)

        results = at_once(
            partial(api.DeleteDiagram, threat_model_id=tm, diagram_id=diagram["id"]),
            *(partial(write, threat) for threat in threats),
        )
        assert results[0].status == 204
        assert {error.status for error in results if isinstance(error, ApiError)} <= {400}
        left = api.GetThreatModel(threat_model_id=tm).body["threats"]
        assert all(threat.get("diagram_id") in (None, other) for threat in left)
    assert deadlocks == []


def test_a_threat_model_is_deleted_while_its_children_are_written(api: Api, deadlocks: list[str]) -> None:
    for _ in range(12):
        tm = api.new_threat_model()["id"]
        threats = [api.threat(tm) for _ in range(4)]
        diagram = api.diagram(tm, node(CELLS[0]))["id"]

        def write(threat: Any, tm: str = tm, diagram: str = diagram) -> Any:
            scope = {"threat_model_id": tm, "threat_id": threat["id"]}
            return api.ReplaceThreat({"name": "Put", "diagram_id": diagram}, **scope)

        rename = [{"op": "replace", "path": "/name", "value": "N"}]
        results = at_once(
            partial(api.DeleteThreatModel, threat_model_id=tm),
            partial(api.PatchDiagram, rename, threat_model_id=tm, diagram_id=diagram),
            partial(api.PatchThreatModel, rename, threat_model_id=tm),
            *(partial(write, threat) for threat in threats),
        )
        assert results[0].status == 204
        assert {error.status for error in results if isinstance(error, ApiError)} <= {404}
    assert deadlocks == []
