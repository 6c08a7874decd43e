"""What a change makes of a threat model, and who may change what by PATCH."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Row

from services.shared.errors import conflict, forbidden, invalid_input, not_found
from services.shared.principal import Call
from services.threat_model.access import entries as authorization_list
from services.threat_model.access.tables import OWNER
from services.threat_model.audit import recording as audit
from services.threat_model.models.bodies import PatchedThreatModel, roles_of
from services.threat_model.people.copies import Principals
from services.threat_model.people.names import PrincipalName
from services.threat_model.resources import bodies, json_patch
from services.threat_model.resources.json_patch import PatchOperation

_OWNERS_ONLY = frozenset({"owner", "authorization"})
_PEOPLE = frozenset({"owner", "security_reviewer", "authorization"})
_COLUMNS = {"threat_model_framework": "framework"}


@dataclass(frozen=True)
class Revision:
    """What a change makes of a threat model: columns, the whole list of roles, a summary for people."""

    columns: dict[str, Any]
    roles: dict[str, int]
    summary: str | None


def columns_of(members: Mapping[str, Any]) -> dict[str, Any]:
    """Columns for members that are stored as they are."""
    return {_COLUMNS.get(name, name): value for name, value in members.items()}


def present_roles(row: Row[Any]) -> dict[str, int]:
    """Role by principal id, as read with the row."""
    return {entry["id"]: entry["role"] for entry in orjson.loads(row.entries)}


def require_owner(role: int | None) -> None:
    """Raises ApiError 403 unless the role is owner."""
    if role != OWNER:
        raise forbidden("Only an owner may change who has access.")


class ThreatModelPatch:
    """A PATCH by one caller. Raises ApiError 400 for members that cannot be changed.

    Whom it names is resolved before the transaction that applies it: asking the auth service takes
    long compared with holding a row lock.
    """

    def __init__(self, operations: Sequence[PatchOperation], principals: Principals, call: Call) -> None:
        self._operations = list(operations)
        self._principals = principals
        self._call = call
        self._touched = json_patch.touched_members(operations)
        self._ids: dict[PrincipalName, str] = {}
        json_patch.check_members(self._touched, PatchedThreatModel.model_fields)

    @property
    def names_people(self) -> bool:
        """True when `resolve_people` must come before `revise`."""
        return bool(self._touched & _PEOPLE)

    def resolve_people(self, row: Row[Any]) -> None:
        """Finds everybody whom the patched document names. Raises ApiError 404 for an unknown owner or reviewer."""
        _, body = self._apply(row)
        users = self._users(body)
        self._ids = self._principals.resolve(users.values(), self._call, create_missing=False)
        for name in users.values():
            if name not in self._ids:
                raise not_found(f"There is no {name}.")
        if "authorization" in self._touched:
            entries = (entry.principal for entry in body.authorization)
            self._ids |= self._principals.resolve(entries, self._call, create_missing=True)

    def revise(self, row: Row[Any]) -> Revision:
        """The change, if the caller may make it. Raises ApiError 400, 403, 409."""
        before, body = self._apply(row)
        members = body.members()
        if members["project_id"] and members["project_id"] != row.project_id:
            raise invalid_input("project_id: there is no such project.")
        users = {member: self._id(name) for member, name in self._users(body).items()}
        owner_id = users.get("owner", row.owner_id)
        reviewer_id = row.security_reviewer_id
        if "security_reviewer" in self._touched:
            reviewer_id = users.get("security_reviewer")
        values = {name: value for name, value in members.items() if name not in _PEOPLE}
        columns = columns_of(values) | {"owner_id": owner_id, "security_reviewer_id": reviewer_id}
        for member in self._touched & _PEOPLE:
            values[member] = members[member]
        return Revision(columns, self._roles(row, body, owner_id, reviewer_id), audit.summarize(before, values))

    def _apply(self, row: Row[Any]) -> tuple[dict[str, Any], PatchedThreatModel]:
        self._check_role(row.role)
        document = PatchedThreatModel.blank() | orjson.loads(row.document)
        patched = json_patch.apply(document, self._operations)
        for member in _PEOPLE - self._touched:
            del patched[member]
        body = bodies.validate(PatchedThreatModel, patched)
        if "owner" in self._touched and body.owner is None:
            raise invalid_input("owner: a threat model always has an owner.")
        clears = row.role == OWNER and body.security_reviewer is None
        if "security_reviewer" in self._touched and not (clears or self._call.caller.is_security_reviewer):
            raise forbidden("Only a security reviewer may assign one; an owner may only clear the field.")
        return orjson.loads(row.document), body

    def _check_role(self, role: int | None) -> None:
        if self._touched & _OWNERS_ONLY:
            require_owner(role)
        if "status" in self._touched and role != OWNER and not self._call.caller.is_security_reviewer:
            raise forbidden("Only an owner or a security reviewer may change the status.")

    def _users(self, body: PatchedThreatModel) -> dict[str, PrincipalName]:
        named = {"owner": body.owner, "security_reviewer": body.security_reviewer}
        provider = self._call.caller.provider
        return {member: user.principal(provider) for member, user in named.items() if user and member in self._touched}

    def _roles(self, row: Row[Any], body: PatchedThreatModel, owner_id: str, reviewer_id: str | None) -> dict[str, int]:
        requested = present_roles(row)
        if "authorization" in self._touched:
            requested = roles_of(body.authorization, {e.principal: self._id(e.principal) for e in body.authorization})
        owners = {row.owner_id, owner_id}
        protected = reviewer_id
        if reviewer_id and reviewer_id != row.security_reviewer_id:
            owners.add(reviewer_id)
        return authorization_list.revised(requested, owners=owners, protected=protected)

    def _id(self, name: PrincipalName) -> str:
        if name not in self._ids:
            raise conflict("The list of who has access has just been changed by somebody else: try again.")
        return self._ids[name]
