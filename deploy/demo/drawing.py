"""What a person does at a diagram for a while: drags, renames, adds and removes shapes."""

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import Any

from deploy.demo.diagram import Cell
from deploy.demo.editor import Editor

_NODE_SHAPES = ("actor", "process", "store")


async def draw(editor: Editor, seconds: float, operations_per_second: float, sent: Callable[[], None]) -> None:
    """Draws for some seconds; both people may take the same shape. Calls `sent` after every operation."""
    choose = random.Random(editor.name)  # noqa: S311
    nodes = [cell for cell in editor.log.states[-1]["cells"] if cell["shape"] in _NODE_SHAPES]
    own: list[Cell] = []
    clock = asyncio.get_running_loop()
    end = clock.time() + seconds
    while clock.time() < end:
        await editor.change(*_next_change(choose, nodes, own, editor.name))
        sent()
        await asyncio.sleep(1 / operations_per_second)


def _next_change(choose: random.Random, nodes: list[Cell], own: list[Cell], name: str) -> list[dict[str, Any]]:
    kind = choose.choices(["drag", "rename", "add", "remove"], weights=[6, 2, 2, 1])[0]
    if kind == "add" or (kind == "remove" and not own):
        node = _new_node(choose, name)
        own.append(node)
        edge = _new_edge(node["id"], choose.choice(nodes)["id"])
        return [_change("add", node), _change("add", edge)]
    if kind == "remove":
        return [{"id": own.pop(choose.randrange(len(own)))["id"], "operation": "remove"}]
    node = choose.choice(nodes)
    if kind == "drag":
        position = {"x": choose.randrange(0, 1400, 10), "y": choose.randrange(0, 600, 10)}
        return [_change("update", {"id": node["id"], "shape": node["shape"], "position": position})]
    text = {**node["attrs"]["text"], "text": f"{name} {choose.randrange(100)}"}
    return [_change("update", {"id": node["id"], "shape": node["shape"], "attrs": {**node["attrs"], "text": text}})]


def _change(operation: str, data: Cell) -> dict[str, Any]:
    return {"id": data["id"], "operation": operation, "data": data}


def _new_node(choose: random.Random, name: str) -> Cell:
    return {
        "id": str(uuid.uuid4()),
        "shape": choose.choice(_NODE_SHAPES),
        "position": {"x": choose.randrange(0, 1400, 10), "y": choose.randrange(0, 600, 10)},
        "size": {"width": 140, "height": 60},
        "attrs": {"body": {"fill": "#fff", "stroke": "#333"}, "text": {"text": f"New by {name}"}},
        "data": {"_metadata": [], "security_boundary": False},
    }


def _new_edge(source: str, target: str) -> Cell:
    return {
        "id": str(uuid.uuid4()),
        "shape": "flow",
        "source": {"cell": source, "port": "right"},
        "target": {"cell": target, "port": "left"},
        "attrs": {"line": {"stroke": "#333", "strokeWidth": 1}},
        "data": {"_metadata": []},
    }
