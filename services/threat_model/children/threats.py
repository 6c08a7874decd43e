"""Threats: what can go wrong, how bad it is, where in which diagram, and what is done about it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from sqlalchemy import func, literal_column, select

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
from services.threat_model.cells.tables import diagrams
from services.threat_model.children.tables import assets, threats
from services.threat_model.models.scope import THREAT_MODEL
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
from services.threat_model.resources.declaration import InParent, Reference, Resource, Rules, Stored, Write

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

_severity = documented_spelling(*SEVERITY_RANKS)
_priority = documented_spelling(*PRIORITY_RANKS)
_status = documented_spelling(*STATUS_RANKS)


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
        AfterValidator(_severity),
    ] = None
    priority: Annotated[Line256 | None, AfterValidator(_priority)] = None
    status: Annotated[Line256 | None, AfterValidator(_status)] = None
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

    def store(self, write: Write) -> Stored:
        """Empty `cwe_id` and `cvss` are left out of documents."""
        columns = dict(write.values)
        for name in ("cwe_id", "cvss"):
            if name in columns:
                columns[name] = columns[name] or None
        if write.row is None:
            columns["auto_generated"] = write.call.caller.is_service_account
        return Stored(columns)

    def check(self, write: Write) -> None:
        """Looks only at references that change: one that went stale does not block other edits.

        A cell need not be there: clients record threats on shapes that they have not saved yet.
        """
        for member, table in _REFERRED.items():
            referred = write.values.get(member)
            if not referred or referred == write.before.get(member):
                continue
            # The root is locked, so nobody deletes the diagram that is found here. A deleted asset stays named.
            live = (table.c.id == referred, table.c.threat_model_id == write.scope_id, table.c.deleted_at.is_(None))
            if write.connection.execute(select(table.c.id).where(*live)).first() is None:
                raise invalid_input(f"{member}: there is no such {member.removesuffix('_id')} in this threat model.")


_REFERRED = {"diagram_id": diagrams, "asset_id": assets}

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

THREATS = Resource(
    kind="threat",
    name="Threat",
    plural="threats",
    table=threats,
    scope=THREAT_MODEL,
    in_parent=InParent(embedded=True, counted_as="threat_count", cascades=True),
    references=(
        Reference("diagram", ("diagram_id", "cell_id")),
        Reference("cell", ("cell_id",), within="diagram_id"),
    ),
    members=_MEMBERS,
    list_members={name: value for name, value in _MEMBERS.items() if name != "metadata"},
    create_body=ThreatBody,
    replace_body=ThreatBody,
    patch_body=ThreatBody,
    read_only=("id", "created_at", "modified_at", "alias"),
    new_id=uuid7,
    filters={
        "name": filters.contains(_c.name),
        "description": filters.contains(_c.description),
        "threat_type": filters.has_element(_c.threat_type),
        "severity": filters.one_of(_c.severity, _severity),
        "priority": filters.one_of(_c.priority, _priority),
        "status": filters.one_of(_c.status, _status),
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
        **filters.sort_keys(threats),
        "severity": filters.rank(_c.severity, SEVERITY_RANKS),
        "priority": filters.rank(_c.priority, PRIORITY_RANKS),
        "status": filters.rank(_c.status, STATUS_RANKS),
        "score": func.coalesce(_c.score, literal_column("-1")),
    },
    default_order=(_c.created_at.desc(),),
    rules=ThreatRules(),
)
