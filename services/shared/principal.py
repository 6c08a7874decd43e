"""The verified caller and what a call carries about the request, as gRPC metadata."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from services.shared.errors import forbidden, unauthorized
from services.shared.operations import HttpOperation
from tmi.options.v1.options_pb2 import Gate
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

    operation: HttpOperation | None
    principal: Principal | None
    request_id: str
    public_url: str

    @property
    def caller(self) -> Principal:
        """The verified caller. Raises ApiError 401 when there is none."""
        if self.principal is None:
            raise unauthorized()
        return self.principal

    @property
    def gate(self) -> "Gate.ValueType":
        """What the operation declares about who may call it; an internal RPC declares nothing."""
        return Gate.GATE_UNSPECIFIED if self.operation is None else self.operation.declaration.gate


def call_from_metadata(operation: HttpOperation | None, metadata: Iterable[tuple[str, str | bytes]]) -> Call:
    """Reads what the gateway attached."""
    call = Call(operation, None, "", "")
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

    Roles on a threat model need its data: the service that owns it checks them in the query that
    reads it, against the same declaration.
    """
    if call.operation is None or call.operation.declaration.gate == Gate.GATE_PUBLIC:
        return
    caller = call.caller
    if call.operation.declaration.invoker_only and caller.is_service_account:
        raise forbidden("A service account may not do this.")


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
