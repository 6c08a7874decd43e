"""Threats: what can go wrong, how bad it is, where in which diagram, and what is done about it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from sqlalchemy import Connection, func, literal_column, select

from services.shared.errors import invalid_input
from services.shared.sql_dialect import (
    JsonBoolean,
    JsonOptional,
    JsonString,
    JsonTimestamp,
    JsonUuid,
    JsonVerbatim,
)
from services.shared.uuids import uuid7
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.children.tables import threats
from services.threat_model.resources import filters
from services.threat_model.resources.bodies import (
    Body,
    ClosedBody,
    Description,
    Flag,
    Line256,
    Metadata,
    Name,
    Paragraphs1024,
    UuidReference,
    WebUri,
    default_for_null,
    documented_spelling,
    unique,
)
from services.threat_model.resources.declaration import Members, Rules, SubResource

SEVERITY_RANKS = {"unknown": 0, "informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
PRIORITY_RANKS = {"deferred": 0, "low": 1, "medium": 2, "high": 3, "immediate": 4}
STATUS_RANKS = {
    "open": 0,
    "identified": 0,
    "confirmed": 1,
    "investigating": 1,
    "deferred": 2,
    "mitigation_planned": 3,
    "mitigation_in_progress": 4,
    "in_progress": 4,
    "verification_pending": 5,
    "mitigated": 6,
    "resolved": 7,
    "accepted": 8,
    "closed": 9,
    "false_positive": 10,
}
"""Known values and their order; other texts are accepted and sort before all."""


def _tenths(value: float) -> float:
    rounded = round(value, 1)
    if abs(value - rounded) > 1e-9:
        raise PydanticCustomError("multiple_of", "Must be a multiple of 0.1")
    return rounded


Score = Annotated[float, Field(ge=0, le=10), AfterValidator(_tenths)]

_DECISIONS = {value.lower(): value for value in ("Defer", "Scheduled", "Out-of-Cycle", "Immediate")}


class Cvss(ClosedBody):
    """A CVSS vector and the score its author gives it."""

    vector: Annotated[str, StringConstraints(min_length=26, max_length=250, pattern=r"^[A-Za-z0-9.:/_-]+$")]
    score: Score


class Ssvc(ClosedBody):
    """A Stakeholder-Specific Vulnerability Categorization."""

    vector: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9/:._-]+$")]
    decision: Annotated[
        Literal["Defer", "Scheduled", "Out-of-Cycle", "Immediate"],
        BeforeValidator(lambda value: _DECISIONS.get(value.lower(), value) if isinstance(value, str) else value),
    ]
    methodology: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9 _-]+$")]


ThreatType = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]*$")]
CweId = Annotated[str, StringConstraints(min_length=5, max_length=16, pattern=r"^CWE-[0-9]+$")]


class ThreatBody(Body):
    """Body of POST and PUT, and what a PATCH must leave."""

    name: Name
    description: Description = None
    threat_type: Annotated[
        list[ThreatType], Field(default_factory=list, max_length=20), AfterValidator(unique), default_for_null(list)
    ]
    severity: Annotated[
        Annotated[str, StringConstraints(max_length=50, pattern=r"^[^\x00-\x1f]*$")] | None,
        AfterValidator(documented_spelling(*SEVERITY_RANKS)),
    ] = None
    priority: Annotated[Line256 | None, AfterValidator(documented_spelling(*PRIORITY_RANKS))] = None
    status: Annotated[Line256 | None, AfterValidator(documented_spelling(*STATUS_RANKS))] = None
    score: Score | None = None
    mitigated: Annotated[bool, default_for_null(lambda: False)] = False
    mitigation: Paragraphs1024 = None
    issue_uri: WebUri = None
    cwe_id: Annotated[
        list[CweId], Field(default_factory=list, max_length=50), AfterValidator(unique), default_for_null(list)
    ]
    cvss: Annotated[list[Cvss], Field(default_factory=list, max_length=10), default_for_null(list)]
    ssvc: Ssvc | None = None
    diagram_id: UuidReference = None
    cell_id: UuidReference = None
    asset_id: UuidReference = None
    metadata: Annotated[Metadata, Field(default_factory=list), default_for_null(list)]
    include_in_report: Flag = True
    timmy_enabled: Flag = True


class ThreatRules(Rules):
    """What a threat refers to belongs to the same threat model."""

    def store(self, connection: Connection, row: Any, values: Members) -> dict[str, Any]:  # noqa: ARG002
        """Empty `cwe_id` and `cvss` are left out of documents."""
        return {**values, "cwe_id": values["cwe_id"] or None, "cvss": values["cvss"] or None}

    def check(self, connection: Connection, threat_model_id: str, before: Members, after: Members) -> None:
        """Looks only at references that change: one that went stale does not block other edits."""
        if after["asset_id"] and after["asset_id"] != before.get("asset_id"):
            raise invalid_input("asset_id: there is no such asset in this threat model.")
        diagram_id, cell_id = after["diagram_id"], after["cell_id"]
        if (diagram_id, cell_id) == (before.get("diagram_id"), before.get("cell_id")):
            return
        if diagram_id:
            self._check_diagram(connection, threat_model_id, diagram_id, cell_id)
        elif cell_id:
            self._check_cell(connection, threat_model_id, cell_id)

    def _check_diagram(
        self, connection: Connection, threat_model_id: str, diagram_id: str, cell_id: str | None
    ) -> None:
        cells = (
            select(func.count())
            .select_from(diagram_cells)
            .where(diagram_cells.c.diagram_id == diagram_id, diagram_cells.c.cell_id == cell_id)
            .scalar_subquery()
        )
        found = connection.execute(
            select(diagrams.c.id, (cells if cell_id else literal_column("1")).label("cells"))
            .where(
                diagrams.c.id == diagram_id,
                diagrams.c.threat_model_id == threat_model_id,
                diagrams.c.deleted_at.is_(None),
            )
            .with_for_update(read=True, of=diagrams)
        ).one_or_none()
        if found is None:
            raise invalid_input("diagram_id: there is no such diagram in this threat model.")
        if not found.cells:
            raise invalid_input("cell_id: there is no such cell in the diagram.")

    def _check_cell(self, connection: Connection, threat_model_id: str, cell_id: str) -> None:
        found = connection.execute(
            select(diagram_cells.c.cell_id)
            .join(diagrams)
            .where(
                diagram_cells.c.cell_id == cell_id,
                diagrams.c.threat_model_id == threat_model_id,
                diagrams.c.deleted_at.is_(None),
            )
            .limit(1)
        ).first()
        if found is None:
            raise invalid_input("cell_id: there is no such cell in this threat model.")


_c = threats.c

_MEMBERS = {
    "id": JsonUuid(_c.id),
    "threat_model_id": JsonUuid(_c.threat_model_id),
    "alias": JsonVerbatim(_c.alias),
    "name": JsonString(_c.name),
    "description": JsonOptional(JsonString(_c.description)),
    "threat_type": JsonVerbatim(_c.threat_type),
    "severity": JsonOptional(JsonString(_c.severity)),
    "priority": JsonOptional(JsonString(_c.priority)),
    "status": JsonOptional(JsonString(_c.status)),
    "score": JsonOptional(JsonVerbatim(_c.score)),
    "mitigated": JsonBoolean(_c.mitigated),
    "mitigation": JsonOptional(JsonString(_c.mitigation)),
    "issue_uri": JsonOptional(JsonString(_c.issue_uri)),
    "cwe_id": JsonOptional(JsonVerbatim(_c.cwe_id)),
    "cvss": JsonOptional(JsonVerbatim(_c.cvss)),
    "ssvc": JsonOptional(JsonVerbatim(_c.ssvc)),
    "diagram_id": JsonOptional(JsonUuid(_c.diagram_id)),
    "cell_id": JsonOptional(JsonString(_c.cell_id)),
    "asset_id": JsonOptional(JsonUuid(_c.asset_id)),
    "metadata": JsonVerbatim(_c.metadata),
    "include_in_report": JsonBoolean(_c.include_in_report),
    "timmy_enabled": JsonBoolean(_c.timmy_enabled),
    "auto_generated": JsonBoolean(_c.auto_generated),
    "version": JsonVerbatim(_c.version),
    "created_at": JsonTimestamp(_c.created_at),
    "modified_at": JsonTimestamp(_c.modified_at),
    "deleted_at": JsonOptional(JsonTimestamp(_c.deleted_at)),
}

THREATS = SubResource(
    kind="threat",
    name="Threat",
    plural="threats",
    table=threats,
    members=_MEMBERS,
    list_members=[name for name in _MEMBERS if name != "metadata"],
    create_body=ThreatBody,
    replace_body=ThreatBody,
    patch_body=ThreatBody,
    read_only=("id", "created_at", "modified_at", "alias"),
    new_id=uuid7,
    filters={
        "name": filters.contains(_c.name),
        "description": filters.contains(_c.description),
        "threat_type": filters.has_element(_c.threat_type),
        "severity": filters.one_of(_c.severity),
        "priority": filters.one_of(_c.priority),
        "status": filters.one_of(_c.status),
        "mitigated": filters.equals(_c.mitigated),
        "diagram_id": filters.identifier(_c.diagram_id),
        "cell_id": filters.identifier(_c.cell_id),
        "score_gt": filters.greater(_c.score),
        "score_lt": filters.less(_c.score),
        "score_eq": filters.equals(_c.score),
        "score_ge": filters.at_least(_c.score),
        "score_le": filters.at_most(_c.score),
        "created_after": filters.instant(filters.greater(_c.created_at)),
        "created_before": filters.instant(filters.less(_c.created_at)),
        "modified_after": filters.instant(filters.greater(_c.modified_at)),
        "modified_before": filters.instant(filters.less(_c.modified_at)),
    },
    sort_keys={
        "name": func.lower(_c.name),
        "created_at": _c.created_at,
        "modified_at": _c.modified_at,
        "severity": filters.rank(_c.severity, SEVERITY_RANKS),
        "priority": filters.rank(_c.priority, PRIORITY_RANKS),
        "status": filters.rank(_c.status, STATUS_RANKS),
        "score": func.coalesce(_c.score, literal_column("-1")),
    },
    default_order=(_c.created_at.desc(),),
    rules=ThreatRules(),
)
