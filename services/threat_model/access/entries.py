"""Who may do what on a threat model: the automatic entries, and changes of the list.

The invariant that everything else rests on: the owner has an owner entry, and so has the security
reviewer as long as one is assigned.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam

from services.shared import sql_dialect
from services.shared.access import OWNER, WRITER
from services.shared.errors import conflict, payload_too_large
from services.shared.principal import (
    CONFIDENTIAL_PROJECT_REVIEWERS_GROUP_ID,
    SECURITY_REVIEWERS_GROUP_ID,
    TMI_AUTOMATION_GROUP_ID,
)
from services.shared.sql_dialect import UuidList, UuidText, is_one_of
from services.threat_model.access.tables import threat_model_access
from services.threat_model.limits import MAX_ACCESS_ENTRIES

Roles = Mapping[str, int]
"""Role by principal id."""

_c = threat_model_access.c
_REMOVE = threat_model_access.delete().where(
    _c.threat_model_id == bindparam("of_threat_model_id", type_=UuidText),
    is_one_of(_c.principal_id, bindparam("principal_ids", type_=UuidList())),
)


def at_creation(creator_id: str, requested: Roles, *, confidential: bool) -> dict[str, int]:
    """The entries of a new threat model: the creator's, the requested and the automatic ones."""
    reviewers = CONFIDENTIAL_PROJECT_REVIEWERS_GROUP_ID if confidential else SECURITY_REVIEWERS_GROUP_ID
    return {reviewers: OWNER, TMI_AUTOMATION_GROUP_ID: WRITER, **requested, creator_id: OWNER}


def revised(requested: Roles, *, owners: Iterable[str], protected: str | None) -> dict[str, int]:
    """The entries after a change to `requested`.

    owners: are made owners whatever was requested. protected: the assigned security reviewer, whose
    owner entry may not be lost: ApiError 409.
    """
    roles = {**requested, **dict.fromkeys(owners, OWNER)}
    if protected and roles.get(protected) != OWNER:
        raise conflict("The assigned security reviewer must stay an owner.")
    return roles


def store(connection: Connection, threat_model_id: str, present: Roles, roles: Roles) -> None:
    """Writes the entries that differ. Raises ApiError 413 when there would be too many."""
    if len(roles) > max(MAX_ACCESS_ENTRIES, len(present)):
        raise payload_too_large(f"At most {MAX_ACCESS_ENTRIES} users and groups may have access.")
    removed = [id_ for id_ in present if id_ not in roles]
    changed = [
        {"threat_model_id": threat_model_id, "principal_id": id_, "role": role}
        for id_, role in roles.items()
        if present.get(id_) != role
    ]
    if removed:
        connection.execute(_REMOVE, {"of_threat_model_id": threat_model_id, "principal_ids": removed})
    if changed:
        statement = sql_dialect.insert(connection, threat_model_access)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[_c.threat_model_id, _c.principal_id], set_={"role": statement.excluded.role}
            ),
            changed,
        )
