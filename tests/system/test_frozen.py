"""Processes that are there and do nothing (SIGSTOP): connections stay open, and nobody answers on them.

Everything is asserted while the process is still frozen, and once more after it went on.
"""

import asyncio
from typing import Any

import pytest

from deploy.demo.client import Person
from deploy.demo.diagram import Diagram
from deploy.demo.editor import Editor
from deploy.embedded.stack import Stack
from tests.system.conftest import LogIn, entry, model_with_diagram, node

pytestmark = pytest.mark.anyio


def move(number: int, x: int) -> dict[str, Any]:
    cell_id = node(number)["id"]
    return {"id": cell_id, "operation": "update", "data": {"id": cell_id, "position": {"x": x, "y": x}}}


async def _edit(*editors: Editor) -> None:
    """Everybody edits, and everybody sees what the others did."""
    for x in range(5):
        for number, editor in enumerate(editors):
            await editor.change(move(number % 2, x))
    for editor in editors:
        expected = sum(len(other.log.sent) for other in editors if other is not editor)
        await editor.wait_until(lambda editor=editor, expected=expected: len(editor.log.events) == expected)


async def _assert_nothing_is_lost(person: Person, path: str, before: int, *editors: Editor) -> None:
    diagram = await person.request("GET", path)
    assert diagram["update_vector"] == before + sum(len(editor.log.sent) for editor in editors)
    for editor in editors:
        await editor.wait_until(lambda editor=editor: editor.log.screen() == Diagram(diagram["cells"]).cells())
        assert (editor.log.close_code, editor.log.errors, editor.log.refused) == (None, [], {})


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", ["collaboration", "threat-model"])
async def test_edits_go_around_a_frozen_service(name: str, number: int, log_in: LogIn, stack: Stack) -> None:
    alice, bob = await log_in("alice"), await log_in("bob", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(bob, "writer"))
    path = f"/threat_models/{threat_model_id}/diagrams/{diagram_id}"
    before = (await alice.request("GET", path))["update_vector"]
    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as first,
        Editor("bob", await bob.socket_url(threat_model_id, diagram_id)) as second,
    ):
        await _edit(first, second)
        with stack.frozen(name, number):
            await _edit(first, second)
            await _assert_nothing_is_lost(alice, path, before, first, second)
        await _edit(first, second)
        await _assert_nothing_is_lost(bob, path, before, first, second)
        await first.wait_until(lambda: len(first.participants) == 2)


async def test_a_frozen_gateway_holds_up_nobody_else_and_its_sockets_catch_up(log_in: LogIn, stack: Stack) -> None:
    alice, bob, carol = await log_in("alice"), await log_in("bob"), await log_in("carol", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(bob, "writer"), entry(carol, "writer"))
    path = f"/threat_models/{threat_model_id}/diagrams/{diagram_id}"
    before = (await alice.request("GET", path))["update_vector"]
    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as first,
        Editor("bob", await bob.socket_url(threat_model_id, diagram_id)) as second,
        Editor("carol", await carol.socket_url(threat_model_id, diagram_id)) as third,
    ):
        await first.wait_until(lambda: len(first.participants) == 3)
        with stack.frozen("gateway", 2):
            await third.change(move(0, 9))
            await _edit(first, second)
            await _assert_nothing_is_lost(alice, path, before, first, second)
            # Its connection to the replica is given up, and with it who is behind it.
            await first.wait_until(lambda: len(first.participants) == 2, timeout=60)
        await asyncio.gather(
            *(
                editor.wait_until(lambda editor=editor, events=events: len(editor.log.events) == events)
                for editor, events in ((first, 6), (second, 6), (third, 10))
            )
        )
        await first.wait_until(lambda: len(first.participants) == 3)
        await _assert_nothing_is_lost(alice, path, before, first, second, third)
