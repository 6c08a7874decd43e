"""Assets: what is worth protecting."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from services.shared.sql_dialect import JsonBoolean, JsonOptional, JsonString, JsonTimestamp, JsonUuid, JsonVerbatim
from services.threat_model.children.tables import assets
from services.threat_model.models.scope import THREAT_MODEL
from services.threat_model.resources import filters
from services.threat_model.resources.bodies import Body, Description, Flag, Line128, Metadata, Name, default_for_null
from services.threat_model.resources.declaration import InParent, Resource, Rules, Stored, Write

AssetType = Annotated[
    Literal["data", "hardware", "software", "infrastructure", "service", "personnel"],
    BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value),
]


class AssetBody(Body):
    """Body of POST and PUT, and what a PATCH must leave. A PUT without `metadata` leaves it alone."""

    name: Name
    description: Description = None
    type: AssetType
    criticality: Line128 = None
    classification: Annotated[
        list[Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f]*$")]],
        Field(default_factory=list, max_length=50),
        default_for_null(list),
    ]
    sensitivity: Line128 = None
    metadata: Annotated[Metadata, Field(default_factory=list), default_for_null(list)]
    include_in_report: Flag = True
    timmy_enabled: Flag = True


class AssetRules(Rules):
    """An empty classification is left out of documents."""

    def store(self, write: Write) -> Stored:
        """Columns as they are."""
        columns = dict(write.values)
        if "classification" in columns:
            columns["classification"] = columns["classification"] or None
        return Stored(columns)


_c = assets.c

_MEMBERS = {
    "id": JsonUuid(_c.id),
    "threat_model_id": JsonUuid(_c.threat_model_id),
    "alias": JsonVerbatim(_c.alias),
    "name": JsonString(_c.name),
    "description": JsonOptional(JsonString(_c.description)),
    "type": JsonString(_c.type),
    "criticality": JsonOptional(JsonString(_c.criticality)),
    "classification": JsonOptional(JsonVerbatim(_c.classification)),
    "sensitivity": JsonOptional(JsonString(_c.sensitivity)),
    "metadata": JsonVerbatim(_c.metadata),
    "include_in_report": JsonBoolean(_c.include_in_report),
    "timmy_enabled": JsonBoolean(_c.timmy_enabled),
    "version": JsonVerbatim(_c.version),
    "created_at": JsonTimestamp(_c.created_at),
    "modified_at": JsonTimestamp(_c.modified_at),
    "deleted_at": JsonOptional(JsonTimestamp(_c.deleted_at)),
}

ASSETS = Resource(
    kind="asset",
    name="Asset",
    plural="assets",
    table=assets,
    scope=THREAT_MODEL,
    in_parent=InParent(embedded=True, counted_as="asset_count", cascades=True),
    members=_MEMBERS,
    list_members=_MEMBERS,
    create_body=AssetBody,
    replace_body=AssetBody,
    patch_body=AssetBody,
    read_only=("id", "created_at", "modified_at"),
    left_alone=frozenset({"metadata"}),
    sort_keys={**filters.sort_keys(assets), "type": _c.type},
    default_order=(_c.created_at.desc(),),
    most_in_bulk=50,
    bulk_creates=True,
    rules=AssetRules(),
)
