"""The verified caller and what a call carries about the request, as gRPC metadata."""

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from services.shared.access import Requirement
from services.shared.errors import forbidden, unauthorized
from tmi.principal.v1.principal_pb2 import Principal

PRINCIPAL_KEY = "x-tmi-principal-bin"
REQUEST_ID_KEY = "x-request-id"
PUBLIC_URL_KEY = "x-tmi-public-url"

EVERYONE_GROUP_ID = "00000000-0000-0000-0000-000000000000"
SECURITY_REVIEWERS_GROUP_ID = "00000000-0000-0000-0000-000000000001"
ADMINISTRATORS_GROUP_ID = "00000000-0000-0000-0000-000000000002"
CONFIDENTIAL_PROJECT_REVIEWERS_GROUP_ID = "00000000-0000-0000-0000-000000000003"
TMI_AUTOMATION_GROUP_ID = "00000000-0000-0000-0000-000000000004"
EMBEDDING_AUTOMATION_GROUP_ID = "00000000-0000-0000-0000-000000000005"

BUILT_IN_PROVIDER = "tmi"


@dataclass(slots=True)
class Call:
    """What a handler knows about the call besides the request message."""

    requirement: Requirement | None
    """What the operation asks of its caller; None for an internal RPC."""
    principal: Principal | None
    request_id: str
    public_url: str
    _role_is_enough: bool = field(default=False, init=False)

    @property
    def caller(self) -> Principal:
        """The verified caller. Raises ApiError 401 when there is none."""
        if self.principal is None:
            raise unauthorized()
        return self.principal

    def require(self, role: int | None) -> None:
        """Raises ApiError 403 when the caller's role (None for none) is not enough for the declared access."""
        self._role_is_enough = self.requirement is None or (role or 0) >= self.requirement.role
        if not self._role_is_enough:
            raise forbidden("You do not have the role on this threat model that this needs.")

    def ensure_required(self) -> None:
        """Raises RoleNotRequired when the operation asks for a role and `require` did not allow it, the last time."""
        if self.requirement is not None and self.requirement.role and not self._role_is_enough:
            raise RoleNotRequired


class RoleNotRequired(Exception):
    """A handler wrote or answered without having required the role that its operation declares: a defect."""


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that is being served, None outside of calls. Set by the RPC wrapper."""


def call_from_metadata(requirement: Requirement | None, metadata: Iterable[tuple[str, str | bytes]]) -> Call:
    """Reads what the gateway attached."""
    call = Call(requirement, None, "", "")
    for key, value in metadata:
        if key == PRINCIPAL_KEY and isinstance(value, bytes):
            call.principal = Principal.FromString(value)
        elif key == REQUEST_ID_KEY and isinstance(value, str):
            call.request_id = value
        elif key == PUBLIC_URL_KEY and isinstance(value, str):
            call.public_url = value
    return call


def authorize(call: Call) -> None:
    """Applies what the operation declares about the caller. Raises ApiError 401 or 403.

    Roles on a threat model need its data: the handler asks `Call.require` for them with what the query
    that reads the object has read.
    """
    requirement = call.requirement
    if requirement is None or not requirement.authenticated:
        return
    caller = call.caller
    if requirement.in_person and caller.is_service_account:
        raise forbidden("A service account may not do this.")
    if requirement.administrator and not caller.is_administrator:
        raise forbidden("Only an administrator may do this.")
    if requirement.automation and TMI_AUTOMATION_GROUP_ID not in group_ids(caller):
        raise forbidden("Only automation accounts may do this.")


def metadata_for(call: Call) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata for a call that this call makes to another service."""
    metadata: list[tuple[str, str | bytes]] = [(REQUEST_ID_KEY, call.request_id), (PUBLIC_URL_KEY, call.public_url)]
    if call.principal is not None:
        metadata.append((PRINCIPAL_KEY, call.principal.SerializeToString()))
    return tuple(metadata)


def group_ids(principal: Principal) -> list[str]:
    """Ids of every group the caller is in, `everyone` first, as text."""
    return [EVERYONE_GROUP_ID, *(str(UUID(bytes=identifier)) for identifier in principal.group_ids)]


def user_object(principal: Principal) -> dict[str, str]:
    """The User object of the contract."""
    return {
        "principal_type": "user",
        "provider": principal.provider,
        "provider_id": principal.provider_id,
        "display_name": principal.display_name,
        "email": principal.email,
    }
