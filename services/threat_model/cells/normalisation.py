"""The one form in which cells are stored, whichever way they come in: REST bodies and collaboration operations.

Clients leave all kinds of things in their cells. What is harmless is kept as it is, members that are not
named here among it, or brought into the form of the contract; it never keeps the rest of a diagram from
being saved. Refused is only what nobody could draw, find again or deliver: an id that is no UUID, an unknown shape,
geometry that is no numbers, an edge without ends, containers of the wrong kind, too deep or too large a cell,
text that must not be stored.

Normalising what is normalised changes nothing. So what a GET answers can be sent back, to either door.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import orjson

from services.shared.errors import ApiError
from services.shared.unicode_text import normalised_text
from services.threat_model.cells.cell_set import EDGE_SHAPE, LEGACY_SHAPES, Cell, is_edge
from services.threat_model.limits import MAX_CELL_BYTES, MAX_CELLS

NODE_SHAPES = frozenset({"actor", "process", "store", "security-boundary", "text-box"})
MIN_SIZE = {"width": 40, "height": 30}
MAX_DEPTH = 64

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_GEOMETRY = (("position", ("x", "y")), ("size", ("width", "height")))
_OPTIONAL = ("attrs", "data", "labels", "vertices", "children", "position", "size", "angle", "ports", "parent")
"""Members of the contract whose null is the same as their absence."""


class UnusableCell(ValueError):
    """A cell that cannot be stored. path: of the member at fault within it, such as `.position.x`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}".lstrip())


def stored_text(text: str) -> str:
    """A text of a cell as it is stored: every string and every member name passes here, at both doors.

    The gateway has applied the same rules already, to what comes from clients. Raises UnusableCell.
    """
    try:
        return normalised_text(text)
    except ApiError as error:
        raise UnusableCell("", f"must not be stored: {error.message.rstrip('.')}") from None


def normalised_cells(cells: list[Any]) -> list[Cell]:
    """All cells of a diagram from a REST body, flat and nested geometry as sent. Raises ValueError that says where."""
    if len(cells) > MAX_CELLS:
        raise ValueError(f"a diagram has at most {MAX_CELLS} cells")
    normal: dict[str, Cell] = {}
    for index, data in enumerate(cells):
        where = f"[{index}]"
        if not isinstance(data, dict):
            raise ValueError(f"{where} must be an object")
        cell_id = canonical_id(data.get("id"))
        if cell_id is None:
            raise ValueError(f"{where}.id must be a UUID")
        if cell_id in normal:
            raise ValueError(f"{where}.id occurs twice")
        try:
            normal[cell_id] = _normalised(cell_id, data, {}, nest=False)
        except UnusableCell as problem:
            raise ValueError(f"{where}{'' if str(problem).startswith('.') else ' '}{problem}") from None
    return list(normal.values())


def merged_cell(cell_id: str, data: object, stored: Cell | None) -> Cell:
    """The whole cell after `data` of an operation was laid over `stored` (None: a new cell), geometry nested.

    cell_id: canonical id. Raises UnusableCell.
    """
    if not isinstance(data, dict):
        raise UnusableCell("data", "must be an object")
    return _normalised(cell_id, data, stored or {}, nest=True)


def canonical_id(value: object) -> str | None:
    """A UUID as lowercase text; None for anything else."""
    if isinstance(value, str):
        lower = value.lower()
        if _UUID.fullmatch(lower):
            return lower
    return None


def _normalised(cell_id: str, data: Cell, stored: Cell, *, nest: bool) -> Cell:
    over: Cell = _clean(data, MAX_DEPTH)
    if "id" in over and canonical_id(over["id"]) != cell_id:
        raise UnusableCell(".id", "must be the id of the entry")
    shape = over.get("shape", stored.get("shape"))
    shape = LEGACY_SHAPES.get(shape, shape) if isinstance(shape, str) else None
    if shape != EDGE_SHAPE and shape not in NODE_SHAPES:
        raise UnusableCell(".shape", f"must be one of {', '.join([*sorted(NODE_SHAPES), EDGE_SHAPE])}")
    if stored and is_edge(stored) != (shape == EDGE_SHAPE):
        raise UnusableCell(".shape", "must not turn a node into an edge, nor an edge into a node")
    for name, normal in (_EDGE if shape == EDGE_SHAPE else _NODE).items():
        if over.get(name) is not None:
            over[name] = normal(over[name], f".{name}")
    base = dict(stored)
    if shape != EDGE_SHAPE:
        if "parent" not in over and {"position", "size", "attrs"} <= over.keys():
            over["parent"] = None
        _complete_geometry(over, base, nest=nest)
        _complete_ports(over, base)
    cell = {"id": cell_id, "shape": shape} | base | over | {"id": cell_id, "shape": shape}
    for name in _OPTIONAL:
        if name in cell and cell[name] is None:
            del cell[name]
    if shape == EDGE_SHAPE:
        for end in ("source", "target"):
            if cell.get(end) is None:
                raise UnusableCell(f".{end}", "is missing")
    if len(orjson.dumps(cell)) > MAX_CELL_BYTES:
        raise UnusableCell("", f"must not be larger than {MAX_CELL_BYTES} bytes")
    return cell


def _clean(value: Any, depth: int) -> Any:
    """A copy with every text as it is stored. Raises UnusableCell for what JSON texts of others cannot hold."""
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else stored_text(value)
    if isinstance(value, dict | list):
        if depth == 0:
            raise UnusableCell("", f"must not be nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, list):
            return [_clean(item, depth - 1) for item in value]
        members = {_clean(name, depth): _clean(item, depth - 1) for name, item in value.items()}
        if len(members) < len(value):
            raise UnusableCell("", "must not name a member twice")
        return members
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableCell("", "must not have numbers that are not finite")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise UnusableCell("", "must not have integers of more than 64 bits")
    return value


def _complete_geometry(over: Cell, base: Cell, *, nest: bool) -> None:
    """Both numbers of a point or a size, or none. nest: x, y, width and height become position and size.

    What is not given comes from `base`.
    """
    for key, axes in _GEOMETRY:
        if nest and (flat := {axis: base.pop(axis) for axis in axes if axis in base}):
            base[key] = (base.get(key) or {}) | flat
        flat = {axis: over[axis] for axis in axes if axis in over}
        if not flat:
            continue
        given = over.get(key) or base.get(key) or {}
        for axis in axes:
            if (given | flat).get(axis) is None:
                raise UnusableCell(f".{axis}", "is missing")
        if nest:
            over[key] = given | flat
            for axis in flat:
                del over[axis]


def _complete_ports(over: Cell, base: Cell) -> None:
    """Clients send ports as an array of items; what is stored and read has groups as well."""
    if isinstance(items := over.get("ports"), list):
        stored = base.get("ports")
        if isinstance(stored, dict) and isinstance(stored.get("groups"), dict):
            over["ports"] = stored | {"items": items}
        else:
            del over["ports"]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, path: str) -> Any:
    if not _is_number(value):
        raise UnusableCell(path, "must be a number")
    return value


def _numbers(*axes: str) -> Callable[[Any, str], Any]:
    lengths = {axis: _length(axis) for axis in axes}

    def normal(value: Any, path: str) -> Any:
        numbers = {axis: length(_object(value, path).get(axis), f"{path}.{axis}") for axis, length in lengths.items()}
        return value | numbers

    return normal


def _length(axis: str) -> Callable[[Any, str], Any]:
    """A number; a size below the contract's minimum becomes the minimum."""
    least = MIN_SIZE.get(axis)
    return lambda value, path: _number(value, path) if least is None else max(_number(value, path), least)


def _object(value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise UnusableCell(path, "must be an object")
    return value


def _array(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise UnusableCell(path, "must be an array")
    return value


def _reference(value: Any, path: str) -> str:
    cell_id = canonical_id(value)
    if cell_id is None:
        raise UnusableCell(path, "must be the id of a cell")
    return cell_id


def _parent(value: Any, path: str) -> str | None:
    return None if value == "" else _reference(value, path)


def _children(value: Any, path: str) -> list[str]:
    children = enumerate(_array(value, path))
    return [_reference(child, f"{path}[{index}]") for index, child in children if child is not None]


def _end(value: Any, path: str) -> Any:
    """An end of an edge; the graph library also knows a bare id."""
    if isinstance(value, str):
        value = {"cell": value}
    return _object(value, path) | {"cell": _reference(value.get("cell"), f"{path}.cell")}


def _vertices(value: Any, path: str) -> list[Any]:
    point = _numbers("x", "y")
    return [point(vertex, f"{path}[{index}]") for index, vertex in enumerate(_array(value, path))]


def _labels(value: Any, path: str) -> list[Any]:
    """Labels; the graph library also knows a bare text, and one for an array of one."""
    labels = [value] if isinstance(value, str) else _array(value, path)
    return [
        _object({"attrs": {"text": {"text": label}}} if isinstance(label, str) else label, f"{path}[{index}]")
        for index, label in enumerate(labels)
        if label is not None
    ]


def _ports(value: Any, path: str) -> Any:
    return value if isinstance(value, list) else _object(value, path)


def _data(value: Any, path: str) -> Any:
    """Free data; of the contract's two lists in it only what they can hold is kept."""
    data = dict(_object(value, path))
    if "_metadata" in data:
        data["_metadata"] = _entries(data["_metadata"])
    if not data.get("data_assets"):
        data.pop("data_assets", None)
    return data


def _entries(metadata: Any) -> list[Any]:
    """Metadata as an array of keys with texts. Clients write entries whose value they set to null afterwards: those go.

    The value of another kind becomes its JSON text.
    """
    if isinstance(metadata, dict):
        metadata = [{"key": key, "value": value} for key, value in metadata.items()]
    return [
        entry if isinstance(entry["value"], str) else entry | {"value": orjson.dumps(entry["value"]).decode()}
        for entry in (metadata if isinstance(metadata, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("key"), str) and entry.get("value") is not None
    ]


_CELL: dict[str, Callable[[Any, str], Any]] = {
    "angle": _number,
    "attrs": _object,
    "data": _data,
    "parent": _parent,
    "children": _children,
}
_NODE = _CELL | {
    **{axis: _length(axis) for axis in ("x", "y", "width", "height")},
    "position": _numbers("x", "y"),
    "size": _numbers("width", "height"),
    "ports": _ports,
}
_EDGE = _CELL | {"source": _end, "target": _end, "vertices": _vertices, "labels": _labels}
