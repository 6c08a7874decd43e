"""Data-flow diagrams. Their cells are rows of their own; a live session owns the cells."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from sqlalchemy import Row, case, func, literal_column, select
from sqlalchemy.sql.elements import ColumnElement

from services.shared.errors import conflict, payload_too_large
from services.shared.sql_dialect import (
    JsonBoolean,
    JsonOptional,
    JsonString,
    JsonTimestamp,
    JsonUuid,
    JsonVerbatim,
    json_array,
    json_object,
)
from services.threat_model.cells import rows as cell_rows
from services.threat_model.cells.normalisation import normalised_cells
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.limits import FULL_OF_CELLS, MAX_MODEL_CELLS_BYTES
from services.threat_model.models.scope import THREAT_MODEL
from services.threat_model.resources import filters
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
from services.threat_model.resources.declaration import InParent, Resource, Rules, Stored, Write
from services.threat_model.sequencer import rest_writes

DiagramType = Annotated[
    Literal["DFD-1.0.0"], BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
]
MAX_SVG_CHARACTERS = 102_400
MOST_METADATA = 10_000


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
        return normalised_cells(cells)
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
        Field(default_factory=list, max_length=MOST_METADATA),
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

    def reads(self, members: frozenset[str]) -> Sequence[ColumnElement[Any]]:
        """The session, the vector and how large cells are; the places of the cells when those may change."""
        columns: list[ColumnElement[Any]] = [_c.session_id, _c.update_vector, _c.cells_bytes]
        columns.append(cell_rows.bytes_of_model(_c.threat_model_id).label("model_cells_bytes"))
        if "cells" in members:
            columns.append(_of_cells(JsonVerbatim(diagram_cells.c.position)).label("positions"))
        return columns

    def guard(self, row: Row[Any], members: frozenset[str] | None) -> None:
        """409 while a collaboration session is live: its row is locked, so none can begin meanwhile.

        Metadata is none of the session's business.
        """
        if row.session_id is not None and members != frozenset({"metadata"}):
            raise conflict("The diagram cannot be changed now: a collaboration session is active.")

    def restore(self, row: Row[Any]) -> None:
        """413 when the cells do not fit among those that the model has meanwhile."""
        if row.cells_bytes + row.model_cells_bytes > MAX_MODEL_CELLS_BYTES:
            raise payload_too_large(FULL_OF_CELLS)

    def store(self, write: Write) -> Stored:
        """Cells go to their rows, an image without a vector gets that of the diagram."""
        columns = dict(write.values)
        row = write.row
        if row is None:
            columns |= {"metadata": [], "include_in_report": True, "timmy_enabled": True, "update_vector": 0}
            columns["auto_generated"] = write.call.caller.is_service_account
            return Stored(columns)
        vector = row.update_vector
        remembered = {}
        gone: list[str] = []
        if "cells" in columns:
            cells, stored = columns.pop("cells"), write.before["cells"]
            positions = orjson.loads(row.positions)
            replaced = rest_writes.replace_cells(write.connection, row.id, vector + 1, stored, positions, cells)
            if replaced is not None:
                gone = replaced.gone
                columns["cells_bytes"] = row.cells_bytes + replaced.growth
                if replaced.growth > 0 and columns["cells_bytes"] > cell_rows.most_bytes(
                    row.cells_bytes, row.model_cells_bytes
                ):
                    raise payload_too_large(FULL_OF_CELLS)
                remembered["update_vector"] = vector
                vector += 1
                columns["update_vector"] = vector
        if "image" in columns:
            image = columns.pop("image")
            columns["image_svg"] = image["svg"]
            columns["image_update_vector"] = image["update_vector"]
            if image["svg"] and image["update_vector"] is None:
                columns["image_update_vector"] = vector
        if "color_palette" in columns:
            columns["color_palette"] = columns["color_palette"] or None
        return Stored(columns, remembered, {"cell": gone})


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

_MEMBERS = {
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
    "cells": _of_cells(diagram_cells.c.data),
}

_IN_LISTS = (
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
)

DIAGRAMS = Resource(
    kind="diagram",
    name="Diagram",
    plural="diagrams",
    table=diagrams,
    scope=THREAT_MODEL,
    in_parent=InParent(embedded=True, counted_as="diagram_count", cascades=True),
    members=_MEMBERS,
    when_new={"cells": literal_column("'[]'")},
    list_members={name: _MEMBERS[name] for name in _IN_LISTS},
    create_body=DiagramCreateBody,
    replace_body=DiagramReplaceBody,
    patch_body=DiagramPatchBody,
    left_alone=frozenset({"metadata"}),
    untold=frozenset({"cells"}),
    most_metadata=MOST_METADATA,
    sort_keys=filters.sort_keys(diagrams),
    default_order=(_c.created_at.asc(),),
    rules=DiagramRules(),
)
