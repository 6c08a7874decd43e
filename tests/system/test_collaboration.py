import asyncio

import pytest

from deploy.demo.checker import Verdict, check
from deploy.demo.diagram import Diagram
from deploy.demo.drawing import draw
from deploy.demo.editor import Editor
from deploy.embedded.stack import Stack
from tests.system.conftest import LogIn, entry, model_with_diagram, node

pytestmark = pytest.mark.anyio


async def test_two_people_edit_through_two_gateways_while_every_replica_is_killed(log_in: LogIn, stack: Stack) -> None:
    alice, bob = await log_in("alice"), await log_in("bob", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(bob, "writer"))
    path = f"/threat_models/{threat_model_id}/diagrams/{diagram_id}"
    start_vector = (await alice.request("GET", path))["update_vector"]
    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as first,
        Editor("bob", await bob.socket_url(threat_model_id, diagram_id)) as second,
        Editor("witness", await bob.socket_url(threat_model_id, diagram_id)) as witness,
    ):
        drawing = asyncio.gather(*(draw(editor, 6, 15, lambda: None) for editor in (first, second)))
        for number in (1, 2):
            killed = await asyncio.to_thread(stack.kill, "collaboration", number)
            await asyncio.to_thread(stack.wait_replaced, "collaboration", number, killed)
        await drawing
        total = len(first.log.sent) + len(second.log.sent)
        await witness.wait_until(lambda: witness.newest_vector >= start_vector + total)
        for editor, other in ((first, second), (second, first)):
            await editor.wait_until(lambda e=editor, o=other: len(e.log.events) >= len(o.log.sent))
        diagram = await bob.request("GET", path)
        shown = Diagram(diagram["cells"]).cells()
        for editor in (first, second, witness):
            await editor.wait_until(lambda e=editor: e.log.screen() == shown)
        verdict = check([first, second], witness, start_vector, diagram["update_vector"], diagram["cells"])
    assert verdict == Verdict(
        sent=total,
        refused=0,
        accepted=total,
        lost=0,
        duplicated=0,
        out_of_order=0,
        sockets_closed=0,
        screens_equal=True,
        equal_to_rest=True,
    )
    assert verdict.all_clear


@pytest.mark.parametrize("second_key", ["position", "size"])
async def test_two_people_who_drag_the_same_cells_end_with_the_same_screen(second_key: str, log_in: LogIn) -> None:
    alice, bob = await log_in("alice"), await log_in("bob", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(bob, "writer"))
    path = f"/threat_models/{threat_model_id}/diagrams/{diagram_id}"

    async def drag(editor: Editor, key: str, start: int) -> None:
        for step in range(start, start + 60):
            cell_id = node(step // 10 % 2)["id"]
            value = {"x": step, "y": step} if key == "position" else {"width": step, "height": step}
            data = {"id": cell_id, "shape": "process", key: value}
            await editor.change({"id": cell_id, "operation": "update", "data": data})
            await asyncio.sleep(1 / 20)

    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as first,
        Editor("bob", await bob.socket_url(threat_model_id, diagram_id)) as second,
    ):
        await asyncio.gather(drag(first, "position", 100), drag(second, second_key, 500))
        await first.wait_until(lambda: len(first.log.events) == len(second.log.sent))
        await second.wait_until(lambda: len(second.log.events) == len(first.log.sent))
        stored = Diagram((await alice.request("GET", path))["cells"]).cells()
        for editor in (first, second):
            await editor.wait_until(lambda e=editor: e.log.screen() == stored)
        assert first.log.corrections or second.log.corrections


async def test_logout_closes_the_sockets_of_that_login_at_any_gateway(log_in: LogIn) -> None:
    alice, bob = await log_in("alice"), await log_in("bob", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(bob, "writer"))
    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as stays,
        Editor("bob", await bob.socket_url(threat_model_id, diagram_id)) as leaves,
    ):
        await stays.wait_until(lambda: len(stays.participants) == 2)
        await bob.request("POST", "/me/logout", {})
        await leaves.wait_until(lambda: leaves.log.close_code is not None)
        assert leaves.log.close_code == 4401
        await stays.wait_until(lambda: len(stays.participants) == 1)
        assert stays.log.close_code is None


async def test_a_diagram_in_a_session_cannot_be_written_over_rest_and_its_end_is_told_to_everybody(
    log_in: LogIn,
) -> None:
    alice, bob = await log_in("alice"), await log_in("bob", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(bob, "writer"))
    path = f"/threat_models/{threat_model_id}/diagrams/{diagram_id}"
    body = {"name": "Flow", "type": "DFD-1.0.0", "cells": []}
    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)),
        Editor("bob", await bob.socket_url(threat_model_id, diagram_id)) as guest,
    ):
        refused = await bob.call("PUT", path, body)
        assert (refused.status_code, refused.json()["error"]) == (409, "conflict")
        await alice.request("DELETE", f"{path}/collaborate")
        await guest.wait_until(lambda: guest.log.close_code is not None)
        assert guest.log.close_code == 1000
        assert guest.log.errors[0].startswith("session_terminated")
    assert (await bob.call("PUT", path, body)).status_code == 200


async def test_a_large_paste_is_one_operation(log_in: LogIn) -> None:
    alice, bob = await log_in("alice"), await log_in("bob", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(bob, "writer"))
    path = f"/threat_models/{threat_model_id}/diagrams/{diagram_id}"
    pasted = [{"id": cell["id"], "operation": "add", "data": cell} for cell in map(node, range(2, 1502))]
    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as first,
        Editor("bob", await bob.socket_url(threat_model_id, diagram_id)) as second,
    ):
        await first.change(*pasted)
        await second.wait_until(lambda: len(second.log.events) == 1)
        stored = Diagram((await bob.request("GET", path))["cells"]).cells()
        assert len(stored) == 1502
        assert first.log.screen() == second.log.screen() == stored


async def test_a_reader_sees_edits_and_may_not_make_them(log_in: LogIn) -> None:
    alice, reader = await log_in("alice"), await log_in("reader", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice, entry(reader, "reader"))
    change = {"id": node(0)["id"], "operation": "update", "data": {"id": node(0)["id"], "position": {"x": 1, "y": 2}}}
    async with (
        Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as writes,
        Editor("reader", await reader.socket_url(threat_model_id, diagram_id)) as watches,
    ):
        await watches.change(change)
        await watches.wait_until(lambda: "authorization_denied" in watches.log.refused.values())
        await writes.change(change)
        await watches.wait_until(lambda: len(watches.log.events) == 1)
        assert writes.log.events == []
