"""A threat model as JSON: its own members, its embedded children, and the list item."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, case, literal_column, select

from services.shared.access import ROLE_NAMES
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
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.people import names as people
from services.threat_model.people.tables import principals
from services.threat_model.resources.declaration import Resource
from services.threat_model.resources.embedding import counts

COUNTS = ("threat_count", "diagram_count", "document_count", "repo_count", "note_count", "asset_count")
"""Members of a list item that count children, whether or not there are such children yet."""

_c = threat_models.c


def _authorization() -> ScalarSelect[str]:
    access = threat_model_access.c
    names: list[Any] = [
        (access.role == literal_column(str(role)), literal_column(f"'\"{name}\"'")) for role, name in ROLE_NAMES.items()
    ]
    who = principals.c
    entries = (
        select(json_object({**people.members(principals), "role": case(*names)}))
        .select_from(threat_model_access.join(principals, who.id == access.principal_id))
        .where(access.threat_model_id == _c.id)
        .order_by(access.role.desc(), who.type, who.provider, who.provider_id, who.id)
    )
    return json_array(entries.correlate(threat_models))


_MEMBERS: dict[str, ColumnElement[Any]] = {
    "id": JsonUuid(_c.id),
    "alias": JsonVerbatim(_c.alias),
    "name": JsonString(_c.name),
    "description": JsonOptional(JsonString(_c.description)),
    "threat_model_framework": JsonString(_c.framework),
    "issue_uri": JsonOptional(JsonString(_c.issue_uri)),
    "status": JsonString(_c.status),
    "status_updated": JsonTimestamp(_c.status_updated),
    "owner": people.document(_c.owner_id),
    "created_by": people.document(_c.created_by),
    "security_reviewer": JsonOptional(people.document(_c.security_reviewer_id)),
    "created_at": JsonTimestamp(_c.created_at),
    "modified_at": JsonTimestamp(_c.modified_at),
    "deleted_at": JsonOptional(JsonTimestamp(_c.deleted_at)),
}

MEMBERS: dict[str, ColumnElement[Any]] = {
    **_MEMBERS,
    "is_confidential": JsonBoolean(_c.is_confidential),
    "project_id": JsonOptional(JsonUuid(_c.project_id)),
    "version": JsonVerbatim(_c.version),
    "metadata": JsonVerbatim(_c.metadata),
    "authorization": _authorization(),
}


def list_members(children: Sequence[Resource]) -> dict[str, ColumnElement[Any]]:
    """Members of a list item."""
    return {**_MEMBERS, **{name: literal_column("'0'") for name in COUNTS}, **counts(children)}
