"""The checker of the demonstration sees every fault that it is there to see."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from deploy.demo.checker import Verdict, check
from deploy.demo.editor import Editor
from tests.system.conftest import node

_START = 5


@dataclass
class Scene:
    """Two editors, four operations, a witness, and what REST answers: all as it should be."""

    first: Editor = field(default_factory=lambda: _editor("first"))
    second: Editor = field(default_factory=lambda: _editor("second"))
    witness: Editor = field(default_factory=lambda: _editor("witness"))
    rest_vector: int = _START
    rest_cells: list[dict[str, Any]] = field(default_factory=lambda: [node(0), node(1)])

    def __post_init__(self) -> None:
        for number, (writer, reader) in enumerate([(self.first, self.second), (self.second, self.first)] * 2):
            position = {"x": number, "y": number}
            cell = node(number % 2)
            data = {"id": cell["id"], "position": position}
            change = {"id": cell["id"], "operation": "update"}
            operation = {"type": "patch", "cells": [{**change, "data": data}]}
            operation_id = str(UUID(int=number))
            self.rest_vector += 1
            self.rest_cells[number % 2]["position"] = position
            whole = {"type": "patch", "cells": [{**change, "data": {**cell, **data}}]}
            event = {"operation_id": operation_id, "update_vector": self.rest_vector, "operation": whole}
            writer.log.edit(operation_id, operation)
            for socket in (reader, self.witness):
                socket.log.event(event)

    def verdict(self) -> Verdict:
        return check([self.first, self.second], self.witness, _START, self.rest_vector, self.rest_cells)


def _editor(name: str) -> Editor:
    editor = Editor(name, "ws://nowhere.invalid")
    editor.log.state({"update_vector": _START, "cells": [node(0), node(1)]})
    return editor


def test_all_is_clear_when_nothing_is_wrong() -> None:
    verdict = Scene().verdict()
    assert verdict.all_clear
    assert (verdict.sent, verdict.accepted) == (4, 4)


def _lose(scene: Scene) -> None:
    del scene.witness.log.events[2]


def _double(scene: Scene) -> None:
    scene.witness.log.events.append(scene.witness.log.events[0])


def _swap(scene: Scene) -> None:
    events = scene.witness.log.events
    events[1], events[2] = events[2], events[1]


def _close(scene: Scene) -> None:
    scene.second.log.close_code = 1006


def _refuse(scene: Scene) -> None:
    scene.first.log.refused[str(UUID(int=0))] = "conflict_detected"


def _differ(scene: Scene) -> None:
    scene.second.log.drawn.pop()


def _store_otherwise(scene: Scene) -> None:
    scene.rest_cells[0] = node(7)


def _apply_twice(scene: Scene) -> None:
    scene.rest_vector += 1


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (_lose, {"lost": 1, "out_of_order": 1}),
        (_double, {"duplicated": 1}),
        (_swap, {"out_of_order": 3}),
        (_close, {"sockets_closed": 1}),
        (_refuse, {"refused": 1}),
        (_differ, {"screens_equal": False}),
        (_store_otherwise, {"equal_to_rest": False}),
        (_apply_twice, {"duplicated": 1, "accepted": 5}),
    ],
)
def test_a_fault_is_seen(fault: Callable[[Scene], None], shown: dict[str, Any]) -> None:
    scene = Scene()
    fault(scene)
    verdict = scene.verdict()
    assert {name: getattr(verdict, name) for name in shown} == shown
    assert not verdict.all_clear


def test_a_resynchronised_witness_is_no_loss_when_the_database_has_everything() -> None:
    scene = Scene()
    first, _, _, last = scene.witness.log.events
    scene.witness = _editor("witness")
    scene.witness.log.event(first)
    scene.witness.log.state(
        {
            "update_vector": _START + 3,
            "cells": [{**node(0), "position": {"x": 2, "y": 2}}, {**node(1), "position": {"x": 1, "y": 1}}],
        }
    )
    scene.witness.log.event(last)
    assert scene.verdict().all_clear
