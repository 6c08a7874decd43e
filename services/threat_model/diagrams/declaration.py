"""Data-flow diagrams. Their cells are rows of their own; a live session owns the cells."""

import base64
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from sqlalchemy import Connection, Row, bindparam, case, func, literal_column, select
from sqlalchemy.sql.elements import ColumnElement

from services.shared.errors import conflict
from services.shared.sql_dialect import (
    JsonBoolean,
    JsonOptional,
    JsonString,
    JsonTimestamp,
    JsonUuid,
    JsonVerbatim,
    UtcDateTime,
    UuidText,
    json_array,
    json_object,
)
from services.threat_model.cells import rules as cell_rules
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.children.tables import threats
from services.threat_model.resources.bodies import (
    Body,
    ClosedBody,
    Description,
    Flag,
    MetadataEntry,
    Name,
    default_for_null,
    sorted_unique,
)
from services.threat_model.resources.declaration import Members, Rules, SubResource
from services.threat_model.sequencer import rest_writes

DiagramType = Annotated[
    Literal["DFD-1.0.0"], BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
]
MAX_SVG_CHARACTERS = 102_400


def _svg(value: str | None) -> str | None:
    if not value:
        return None
    try:
        base64.b64decode(value, validate=True).decode()
    except ValueError:
        raise PydanticCustomError("base64_svg", "Must be the base64 of a UTF-8 text") from None
    return value


class Image(ClosedBody):
    """A rendering of the diagram and the vector of the diagram that it shows."""

    svg: Annotated[Annotated[str, StringConstraints(max_length=MAX_SVG_CHARACTERS)] | None, AfterValidator(_svg)] = None
    update_vector: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class Color(Body):
    """A colour and its place in the palette."""

    position: Annotated[int, Field(ge=1, le=8)]
    color: Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{3}([0-9a-fA-F]{3})?$", to_lower=True)]


def _palette(colors: list[Color]) -> list[Color]:
    if len({color.position for color in colors}) != len(colors):
        raise PydanticCustomError("duplicate_position", "A position may occur only once")
    for color in colors:
        if len(color.color) == 4:
            color.color = "#" + "".join(digit * 2 for digit in color.color[1:])
    return sorted(colors, key=lambda color: color.position)


def _cells(cells: list[Any]) -> list[Any]:
    try:
        return cell_rules.check_cells(cells)
    except ValueError as error:
        raise PydanticCustomError("cells", "{problem}", {"problem": str(error)}) from None


Cells = Annotated[list[Any], AfterValidator(_cells)]


class DiagramCreateBody(ClosedBody):
    """Body of POST: a diagram begins empty."""

    name: Name
    type: DiagramType


class DiagramPatchBody(Body):
    """What a PATCH must leave. Absent cells are those that are stored."""

    name: Name
    type: DiagramType
    description: Description = None
    metadata: Annotated[
        list[MetadataEntry],
        Field(default_factory=list, max_length=10_000),
        AfterValidator(sorted_unique),
        default_for_null(list),
    ]
    image: Annotated[Image, Field(default_factory=Image), default_for_null(dict)]
    color_palette: Annotated[
        list[Color], Field(default_factory=list, max_length=8), AfterValidator(_palette), default_for_null(list)
    ]
    include_in_report: Flag = True
    timmy_enabled: Flag = True
    cells: Cells = Field(default_factory=list)


class DiagramReplaceBody(DiagramPatchBody):
    """Body of PUT."""

    cells: Cells


class DiagramRules(Rules):
    """A session excludes REST writes; a change of cells advances the update vector by exactly 1."""

    def guard(self, row: Row[Any]) -> None:
        """409 while a collaboration session is live: its row is locked, so none can begin meanwhile."""
        if row.session_id is not None:
            raise conflict("The diagram cannot be changed now: a collaboration session is active.")

    def store(self, connection: Connection, row: Row[Any] | None, values: Members) -> dict[str, Any]:
        """Cells go to their rows, an image without a vector gets that of the diagram."""
        if row is None:
            return {**values, "metadata": [], "include_in_report": True, "timmy_enabled": True, "update_vector": 0}
        columns = dict(values)
        vector = row.update_vector
        if "cells" in columns:
            cells, stored, positions = columns.pop("cells"), orjson.loads(row.lazy), orjson.loads(row.positions)
            if rest_writes.replace_cells(connection, row.id, vector + 1, stored, positions, cells):
                vector += 1
        image = columns.pop("image")
        columns["image_svg"] = image["svg"]
        columns["image_update_vector"] = image["update_vector"]
        if image["svg"] and image["update_vector"] is None:
            columns["image_update_vector"] = vector
        columns["color_palette"] = columns["color_palette"] or None
        columns["update_vector"] = vector
        return columns

    def deleted(self, connection: Connection, row_id: str, now: datetime) -> str | None:
        """Threats stop pointing at the diagram and its cells."""
        freed = connection.execute(_FORGET_IN_THREATS, {"of_diagram_id": row_id, "now": now}).rowcount
        return f"{freed} threats no longer point at it" if freed else None


_FORGET_IN_THREATS = (
    threats.update()
    .where(threats.c.diagram_id == bindparam("of_diagram_id", type_=UuidText))
    .values(
        diagram_id=None,
        cell_id=None,
        version=threats.c.version + 1,
        modified_at=bindparam("now", type_=UtcDateTime()),
    )
)

_c = diagrams.c
_ORDER = (diagram_cells.c.position, diagram_cells.c.cell_id)


def _of_cells(value: ColumnElement[Any]) -> ColumnElement[str]:
    rows = select(value).where(diagram_cells.c.diagram_id == _c.id).order_by(*_ORDER)
    return json_array(rows.correlate(diagrams))


_SVG_MEMBERS = {
    "svg": JsonString(_c.image_svg),
    "update_vector": JsonVerbatim(func.coalesce(_c.image_update_vector, literal_column("0"))),
}
_IMAGE = case(
    (_c.image_svg.is_not(None), json_object(_SVG_MEMBERS)),
    (_c.image_update_vector.is_not(None), json_object({"update_vector": JsonVerbatim(_c.image_update_vector)})),
    else_=literal_column("'{}'"),
)

DIAGRAMS = SubResource(
    kind="diagram",
    name="Diagram",
    plural="diagrams",
    table=diagrams,
    members={
        "id": JsonUuid(_c.id),
        "alias": JsonVerbatim(_c.alias),
        "name": JsonString(_c.name),
        "type": JsonString(_c.type),
        "description": JsonOptional(JsonString(_c.description)),
        "image": _IMAGE,
        "color_palette": JsonOptional(JsonVerbatim(_c.color_palette)),
        "metadata": JsonVerbatim(_c.metadata),
        "include_in_report": JsonBoolean(_c.include_in_report),
        "timmy_enabled": JsonBoolean(_c.timmy_enabled),
        "auto_generated": JsonBoolean(_c.auto_generated),
        "update_vector": JsonVerbatim(_c.update_vector),
        "version": JsonVerbatim(_c.version),
        "created_at": JsonTimestamp(_c.created_at),
        "modified_at": JsonTimestamp(_c.modified_at),
        "deleted_at": JsonOptional(JsonTimestamp(_c.deleted_at)),
    },
    lazy=("cells", _of_cells(diagram_cells.c.data)),
    list_members=(
        "id",
        "alias",
        "name",
        "type",
        "description",
        "image",
        "include_in_report",
        "timmy_enabled",
        "created_at",
        "modified_at",
        "deleted_at",
    ),
    create_body=DiagramCreateBody,
    replace_body=DiagramReplaceBody,
    patch_body=DiagramPatchBody,
    kept=("metadata",),
    default_order=(_c.created_at.asc(),),
    locked=(_c.session_id, _c.update_vector, _of_cells(JsonVerbatim(diagram_cells.c.position)).label("positions")),
    rules=DiagramRules(),
)
