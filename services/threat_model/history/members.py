"""The members of a row as of any earlier version that the audit trail reaches back to."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, select

from services.shared.errors import gone, not_found
from services.shared.sql_dialect import UuidText
from services.threat_model.audit.tables import audit_entries
from services.threat_model.resources.declaration import Members

_c = audit_entries.c
_LATER = (
    select(_c.version, _c.before)
    .where(_c.object_id == bindparam("object_id", type_=UuidText), _c.version > bindparam("target"))
    .order_by(_c.version.desc())
)


def members_at(
    connection: Connection, object_id: str, present: Members, present_version: int, version: int
) -> dict[str, Any]:
    """What differs from the present members in those of an earlier version: None for one that had no value.

    present: of the row, which the caller has locked or read in the same transaction. Members whose history
    is kept elsewhere, the cells of a diagram, are not among them; `update_vector` says which cells belong to
    the version. Raises ApiError 404 for a version that never was, 410 when the trail does not reach back.
    """
    if not 1 <= version <= present_version:
        raise not_found(f"There is no version {version} of this object.")
    entries = connection.execute(_LATER, {"object_id": object_id, "target": version})
    former = fold_back(present_version, ((row.version, row.before) for row in entries), version)
    return {name: value for name, value in former.items() if value != present.get(name)}


def fold_back(version: int, entries: Iterable[tuple[int, Mapping[str, Any] | None]], target: int) -> dict[str, Any]:
    """Former values, as of `target`, of every member that changed since.

    entries: versions with what each took away, newest first. Raises ApiError 410 when one is missing.
    """
    former: dict[str, Any] = {}
    reached = version
    for number, before in entries:
        if number != reached:
            break
        former |= before or {}
        reached -= 1
    if reached != target:
        raise gone(f"The history of this object is kept from version {reached} on.")
    return former
