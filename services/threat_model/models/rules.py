"""What is special about threat models: people, who may change what, and the list of who has access."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, select

from services.shared.access import OWNER
from services.shared.errors import conflict, forbidden, invalid_input, not_found
from services.shared.principal import Call
from services.shared.sql_dialect import JsonOptional, JsonString, JsonUuid, JsonVerbatim, json_array, json_object
from services.threat_model.access import entries
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.audit.recording import ChangeType
from services.threat_model.models.bodies import DEFAULT_STATUS, AuthorizationEntry, UserReference, roles_of
from services.threat_model.people.copies import Principals
from services.threat_model.people.names import PrincipalName
from services.threat_model.people.tables import principals
from services.threat_model.resources.declaration import Members, Rules, Stored, Write

PEOPLE = frozenset({"owner", "security_reviewer", "authorization"})
"""Members that name people."""

_OWNERS_ONLY = ("owner", "authorization")
_USERS = {"owner": "owner_id", "security_reviewer": "security_reviewer_id"}
_COLUMNS = {"threat_model_framework": "framework"}

_c = threat_models.c
_who = principals.c
_ENTRIES = json_array(
    select(
        json_object(
            {
                "id": JsonUuid(_who.id),
                "role": JsonVerbatim(threat_model_access.c.role),
                "type": JsonString(_who.type),
                "provider": JsonString(_who.provider),
                "provider_id": JsonString(_who.provider_id),
                "email": JsonOptional(JsonString(_who.email)),
            }
        )
    )
    .select_from(threat_model_access.join(principals, _who.id == threat_model_access.c.principal_id))
    .where(threat_model_access.c.threat_model_id == _c.id)
    .correlate(threat_models)
)

Ids = Mapping[PrincipalName, str]
"""Internal ids of the people whom a write names."""


class ThreatModelRules(Rules):
    """The owner and the assigned security reviewer are owners, whatever a list says."""

    prepares = PEOPLE

    def __init__(self, people: Principals) -> None:
        self._people = people

    def prepare(self, call: Call, change_type: ChangeType, values: Members, present: Callable[[], Row[Any]]) -> Ids:
        """Finds everybody whom the values name, before anything is locked: asking the auth service takes long.

        Only an owner may bring in somebody new, so only for an owner is anybody recorded. Raises ApiError
        404 for an unknown owner or reviewer.
        """
        if change_type == "patched":
            _check_members(call, present().role, values)
        users = _users(call, values)
        found = self._people.resolve(users.values(), call, create_missing=False)
        for name in users.values():
            if name not in found:
                raise not_found(f"There is no {name}.")
        named = [entry.principal for entry in _entries(values)]
        if change_type == "updated":
            found |= self._people.resolve(named, call, create_missing=False)
            if all(name in found for name in named):
                return found
            _require_owner(present().role)
        return found | self._people.resolve(named, call, create_missing=True)

    def reads(self, members: frozenset[str]) -> Sequence[ColumnElement[Any]]:
        """Who owns it, and who has access when that may change."""
        owners = (_c.owner_id, _c.security_reviewer_id)
        return (*owners, _ENTRIES.label("entries")) if members & PEOPLE else owners

    def check(self, write: Write) -> None:
        """Who may change what, and what a threat model is never without."""
        values, row = write.values, write.row
        if row is not None and write.change_type == "patched":
            _check_members(write.call, row.role, values)
        if "owner" in values and values["owner"] is None:
            raise invalid_input("owner: a threat model always has an owner.")
        project_id = values.get("project_id")
        if project_id and project_id != write.before.get("project_id"):
            raise invalid_input("project_id: there is no such project.")

    def store(self, write: Write) -> Stored:
        """People by their ids; a new status has a time of its own."""
        columns = {_COLUMNS.get(name, name): value for name, value in write.values.items() if name not in PEOPLE}
        if write.row is None:
            caller = write.call.caller.user_id
            columns |= {"owner_id": caller, "created_by": caller, "metadata": columns["metadata"] or []}
            return Stored(columns | {"status": DEFAULT_STATUS, "status_updated": write.now})
        remembered = {}
        if columns.get("status", DEFAULT_STATUS) != write.before.get("status", DEFAULT_STATUS):
            columns["status_updated"] = write.now
        if write.values.keys() & PEOPLE:
            ids = _present_ids(write.row) | write.prepared
            for member, name in _users(write.call, write.values).items():
                columns[_USERS[member]] = _id(ids, name)
            if "security_reviewer" in write.values and write.values["security_reviewer"] is None:
                columns["security_reviewer_id"] = None
            remembered = self._store_roles(write, write.row, ids, columns)
        return Stored(columns, remembered)

    def created(self, write: Write) -> None:
        """The creator's entry, the requested and the automatic ones."""
        requested = roles_of(_entries(write.values), write.prepared or {})
        confidential = write.values["is_confidential"]
        roles = entries.at_creation(write.call.caller.user_id, requested, confidential=confidential)
        entries.store(write.connection, write.row_id, {}, roles)

    def _store_roles(self, write: Write, row: Row[Any], ids: Ids, columns: Members) -> dict[str, Any]:
        """Writes the entries that differ; the former list, if it changes by consequence."""
        present = {entry["id"]: entry["role"] for entry in orjson.loads(row.entries)}
        requested = present
        if "authorization" in write.values:
            named = _entries(write.values)
            requested = roles_of(named, {entry.principal: _id(ids, entry.principal) for entry in named})
        owners = {row.owner_id, columns.get("owner_id", row.owner_id)}
        reviewer = columns.get("security_reviewer_id", row.security_reviewer_id)
        if reviewer and reviewer != row.security_reviewer_id:
            owners.add(reviewer)
        roles = entries.revised(requested, owners=owners, protected=reviewer)
        if roles == present:
            return {}
        if "security_reviewer" not in write.values:
            _require_owner(row.role)
        entries.store(write.connection, write.row_id, present, roles)
        return {"authorization": write.before["authorization"]}


def _check_members(call: Call, role: int | None, values: Members) -> None:
    if any(member in values for member in _OWNERS_ONLY):
        _require_owner(role)
    if "status" in values and role != OWNER and not call.caller.is_security_reviewer:
        raise forbidden("Only an owner or a security reviewer may change the status.")
    if "security_reviewer" in values:
        clears = role == OWNER and values["security_reviewer"] is None
        if not (clears or call.caller.is_security_reviewer):
            raise forbidden("Only a security reviewer may assign one; an owner may only clear the field.")


def _require_owner(role: int | None) -> None:
    if role != OWNER:
        raise forbidden("Only an owner may change who has access.")


def _users(call: Call, values: Members) -> dict[str, PrincipalName]:
    """The owner and the reviewer whom the values name."""
    named = {member: values[member] for member in _USERS if values.get(member)}
    provider = call.caller.provider
    return {member: UserReference.model_construct(**user).principal(provider) for member, user in named.items()}


def _entries(values: Members) -> list[AuthorizationEntry]:
    return [AuthorizationEntry.model_construct(**entry) for entry in values.get("authorization") or ()]


def _present_ids(row: Row[Any]) -> dict[PrincipalName, str]:
    """The people who have access, under every name that a client may use and that the document shows."""
    by_address, by_provider_id = {}, {}
    for entry in orjson.loads(row.entries):
        type_, provider, provider_id = entry["type"], entry["provider"], entry["provider_id"]
        if email := entry.get("email"):
            by_address[PrincipalName(type_, provider, email=email)] = entry["id"]
            by_address[PrincipalName(type_, provider, email)] = entry["id"]
        by_provider_id[PrincipalName(type_, provider, provider_id)] = entry["id"]
    return by_address | by_provider_id


def _id(ids: Ids, name: PrincipalName) -> str:
    if name not in ids:
        raise conflict("The list of who has access has just been changed by somebody else: try again.")
    return ids[name]
