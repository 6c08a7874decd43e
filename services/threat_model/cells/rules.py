"""What the cells of a REST body must look like: nodes and edges of the X6 graph library.

Refuses what no client can mean: wrong types, sizes below the minimum, unknown shapes, values outside
a documented list. Members that are not named here are kept as they are, and nothing is rewritten
but the case of a cell's id.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from services.threat_model.cells.operations import EDGE_SHAPE, MAX_CELLS, MIN_SIZE, NODE_SHAPES, canonical_id

Check = Callable[[Any, str], None]
"""Raises ValueError that says where in the body a value breaks a rule."""


def check_cells(cells: list[Any]) -> list[Any]:
    """The cells, ids in canonical form. Raises ValueError."""
    if len(cells) > MAX_CELLS:
        raise ValueError(f"a diagram has at most {MAX_CELLS} cells")
    checked = []
    seen = set()
    for index, cell in enumerate(cells):
        where = f"[{index}]"
        if not isinstance(cell, dict):
            raise ValueError(f"{where} must be an object")
        cell_id = canonical_id(cell.get("id"))
        if cell_id is None:
            raise ValueError(f"{where}.id must be a UUID")
        if cell_id in seen:
            raise ValueError(f"{where}.id occurs twice")
        seen.add(cell_id)
        _members(_rules_for(cell.get("shape"), where), cell, where)
        checked.append(cell if cell["id"] == cell_id else cell | {"id": cell_id})
    return checked


def encode(cell: dict[str, Any]) -> str:
    """The JSON text that is stored. Raises ValueError when it is nested too deeply."""
    try:
        return orjson.dumps(cell).decode()
    except TypeError:
        raise ValueError(f"the cell {cell['id']} is nested too deeply") from None


def _rules_for(shape: object, where: str) -> Mapping[str, Check]:
    if shape == EDGE_SHAPE:
        return _EDGE
    if isinstance(shape, str) and shape in NODE_SHAPES:
        return _NODE
    raise ValueError(f"{where}.shape must be one of {', '.join([*sorted(NODE_SHAPES), EDGE_SHAPE])}")


def _members(rules: Mapping[str, Check], value: Mapping[str, Any], where: str) -> None:
    for name, check in rules.items():
        if name in value:
            check(value[name], f"{where}.{name}")
        elif check in _REQUIRED:
            raise ValueError(f"{where}.{name} is missing")


def _number(minimum: float | None = None, maximum: float | None = None) -> Check:
    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{where} must be a number")
        if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
            raise ValueError(f"{where} is out of range")

    return check


def _text(longest: int) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"{where} must be a text of at most {longest} characters")

    return check


def _one_of(*values: str) -> Check:
    def check(value: Any, where: str) -> None:
        if value not in values:
            raise ValueError(f"{where} must be one of {', '.join(values)}")

    return check


def _object(**rules: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object")
        _members(rules, value, where)

    return check


def _array(item: Check, longest: int = 1000, *, shortest: int = 0) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not shortest <= len(value) <= longest:
            raise ValueError(f"{where} must be an array of {shortest} to {longest} items")
        for index, element in enumerate(value):
            item(element, f"{where}[{index}]")

    return check


def _either(first: Check, second: Check) -> Check:
    def check(value: Any, where: str) -> None:
        (second if isinstance(value, dict) else first)(value, where)

    return check


def _nullable(inner: Check, *empty: Any) -> Check:
    def check(value: Any, where: str) -> None:
        if value is not None and value not in empty:
            inner(value, where)

    return check


def _required(inner: Check) -> Check:
    def check(value: Any, where: str) -> None:
        inner(value, where)

    _REQUIRED.add(check)
    return check


def _cell_reference(value: Any, where: str) -> None:
    if canonical_id(value) is None:
        raise ValueError(f"{where} must be the id of a cell")


def _flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false")


def _size_or_share(value: Any, where: str) -> None:
    if not isinstance(value, str) or not value.endswith("%"):
        _number()(value, where)


_REQUIRED: set[Check] = set()

_ROUTERS = ("normal", "orth", "one_side", "manhattan", "metro", "er")
_CONNECTORS = ("normal", "rounded", "smooth", "jumpover")
_PAINT = {"fill": _text(64), "stroke": _text(64), "strokeWidth": _number(0), "strokeDasharray": _nullable(_text(64))}
_LABEL_TEXT = _object(text=_text(256), fontSize=_number(1), fill=_text(64), fontFamily=_text(64))
_POINT = _object(x=_required(_number()), y=_required(_number()))
_MARKER = _object(name=_one_of("classic", "block", "diamond", "circle"), size=_number(1))
_LABEL = _object(attrs=_object(text=_LABEL_TEXT), position=_either(_number(), _object(distance=_required(_number()))))

_CELL = {
    "data": _object(
        _metadata=_array(_object(key=_required(_text(256)), value=_required(_text(1024))), 100),
        security_boundary=_flag,
        data_assets=_array(_cell_reference, 100, shortest=1),
    ),
}

_NODE: Mapping[str, Check] = _CELL | {
    "x": _number(),
    "y": _number(),
    "width": _number(MIN_SIZE["width"]),
    "height": _number(MIN_SIZE["height"]),
    "position": _POINT,
    "size": _object(
        width=_required(_number(MIN_SIZE["width"])),
        height=_required(_number(MIN_SIZE["height"])),
    ),
    "angle": _number(),
    "attrs": _object(
        body=_object(
            **_PAINT,
            rx=_number(0),
            ry=_number(0),
            lateral=_number(),
            refWidth=_size_or_share,
            refHeight=_size_or_share,
            fillOpacity=_number(0, 1),
        ),
        text=_object(
            text=_text(256),
            fontSize=_number(1),
            fill=_text(64),
            fontFamily=_text(64),
            refX=_size_or_share,
            refY=_size_or_share,
            textAnchor=_one_of("start", "middle", "end"),
            textVerticalAnchor=_one_of("top", "middle", "bottom"),
        ),
    ),
    "ports": _object(
        groups=_object(),
        items=_array(_object(id=_required(_text(64)), group=_required(_text(32)))),
    ),
    "parent": _nullable(_cell_reference, ""),
    "children": _array(_cell_reference),
}

_TERMINAL = _required(_object(cell=_required(_cell_reference), port=_nullable(_text(64))))

_EDGE: Mapping[str, Check] = _CELL | {
    "source": _TERMINAL,
    "target": _TERMINAL,
    "attrs": _object(line=_object(**_PAINT, sourceMarker=_nullable(_MARKER), targetMarker=_nullable(_MARKER))),
    "labels": _array(_LABEL),
    "vertices": _array(_POINT),
    "router": _either(_one_of(*_ROUTERS), _object(name=_required(_one_of(*_ROUTERS)), args=_object())),
    "connector": _either(_one_of(*_CONNECTORS), _object(name=_required(_one_of(*_CONNECTORS)), args=_object())),
    "defaultLabel": _LABEL,
}
