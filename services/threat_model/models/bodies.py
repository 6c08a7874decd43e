"""Bodies of threat models: POST and PUT, and what a PATCH must leave."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from services.shared.access import OWNER, READER, WRITER
from services.shared.errors import invalid_input
from services.threat_model.people.names import PrincipalName
from services.threat_model.resources.bodies import (
    Body,
    ClosedBody,
    Description,
    Metadata,
    Name,
    UuidReference,
    WebUri,
    default_for_null,
    documented_spelling,
)

DEFAULT_FRAMEWORK = "STRIDE"
FRAMEWORKS = ("CIA", "STRIDE", "LINDDUN", "DIE", "PLOT4ai")
DEFAULT_STATUS = "not_started"
STATUSES = (
    "not_started",
    "in_progress",
    "pending_review",
    "remediation_required",
    "remediation_in_progress",
    "verification_pending",
    "approved",
    "rejected",
    "deferred",
    "closed",
    "active",
)
"""Known values; other texts are accepted."""

_ROLES = {"reader": READER, "writer": WRITER, "owner": OWNER}

_lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
_Provider = Annotated[str, StringConstraints(max_length=100, pattern=r"^(\*|[a-zA-Z][a-zA-Z0-9_*-]*)$")]
_ProviderId = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f]*$")]
_Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^$|^[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+$")]


class _Named(Body):
    """A user or group as a client names it; display_name and the like are ignored."""

    provider: _Provider
    provider_id: _ProviderId | None = None
    email: _Email | None = None

    @model_validator(mode="after")
    def _is_named(self) -> "_Named":
        if not self.provider_id and not self.email:
            raise PydanticCustomError("unnamed", "provider_id or email is required")
        return self

    def _name(self, type_: str) -> PrincipalName:
        if self.provider_id:
            return PrincipalName(type_, self.provider, self.provider_id)
        return PrincipalName(type_, self.provider, email=self.email or "")


class AuthorizationEntry(_Named):
    """A role for a user or group."""

    principal_type: Annotated[Literal["user", "group"], _lower]
    role: Annotated[Literal["reader", "writer", "owner"], _lower]

    @property
    def principal(self) -> PrincipalName:
        """Whom the role is for."""
        return self._name(self.principal_type)

    @property
    def level(self) -> int:
        """The role as a number."""
        return _ROLES[self.role]


class UserReference(_Named):
    """A user, also as a bare email within the caller's provider."""

    principal_type: Annotated[Literal["user"], _lower] = "user"
    provider: _Provider | Literal[""] = ""

    @model_validator(mode="before")
    @classmethod
    def _from_email(cls, value: Any) -> Any:
        return {"email": value} if isinstance(value, str) else value

    def principal(self, default_provider: str) -> PrincipalName:
        """Whom it names."""
        name = self._name("user")
        return name if name.provider else PrincipalName("user", default_provider, name.provider_id, name.email)


def _once(entries: list[AuthorizationEntry]) -> list[AuthorizationEntry]:
    if len({entry.principal for entry in entries}) != len(entries):
        raise PydanticCustomError("duplicate_principal", "A user or group may occur only once")
    return entries


def roles_of(entries: Sequence[AuthorizationEntry], ids: Mapping[PrincipalName, str]) -> dict[str, int]:
    """Role by principal id. Raises ApiError 400 when two entries turn out to name the same principal."""
    roles: dict[str, int] = {}
    for entry in entries:
        id_ = ids[entry.principal]
        if id_ in roles:
            raise invalid_input(f"authorization: {entry.principal} occurs more than once.")
        roles[id_] = entry.level
    return roles


Authorization = Annotated[list[AuthorizationEntry], Field(max_length=1000), AfterValidator(_once)]

_known_framework = documented_spelling(*FRAMEWORKS)
known_status = documented_spelling(*STATUSES)

Framework = Annotated[
    str,
    StringConstraints(max_length=30, pattern=r"^[A-Za-z0-9_-]*$"),
    AfterValidator(lambda value: _known_framework(value) or DEFAULT_FRAMEWORK),
    default_for_null(lambda: DEFAULT_FRAMEWORK),
]
Status = Annotated[
    str,
    StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f]*$"),
    AfterValidator(lambda value: known_status(value) or DEFAULT_STATUS),
    default_for_null(lambda: DEFAULT_STATUS),
]


class ThreatModelBody(ClosedBody):
    """Body of POST."""

    name: Name
    description: Description = None
    threat_model_framework: Framework = DEFAULT_FRAMEWORK
    issue_uri: WebUri = None
    is_confidential: Annotated[bool, default_for_null(lambda: False)] = False
    metadata: Metadata | None = None
    authorization: Authorization | None = None


class ThreatModelReplacement(ThreatModelBody):
    """Body of PUT, which accepts `is_confidential` and ignores it."""

    def members(self) -> dict[str, Any]:
        """What a PUT sets."""
        return {name: value for name, value in super().members().items() if name != "is_confidential"}


class PatchedThreatModel(Body):
    """What a PATCH must leave; the fields are the members that it may change."""

    name: Name
    description: Description = None
    threat_model_framework: Framework = DEFAULT_FRAMEWORK
    issue_uri: WebUri = None
    metadata: Annotated[Metadata, Field(default_factory=list), default_for_null(list)]
    project_id: UuidReference = None
    status: Status = DEFAULT_STATUS
    owner: UserReference | None = None
    security_reviewer: UserReference | None = None
    authorization: Annotated[Authorization, Field(default_factory=list), default_for_null(list)]
