"""The requests that the engine reads: messages of the protos, by the fields that they have in common."""

from typing import Any, Protocol

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from services.shared.errors import invalid_input
from services.shared.principal import Call
from services.threat_model.resources import preconditions
from services.threat_model.resources.declaration import Resource
from services.threat_model.resources.rows import Target


class BodyRequest(Protocol):
    """A request with a body."""

    @property
    def body(self) -> HttpBody:
        """The body as it came."""


class PageRequest(Protocol):
    """A request for a page of a list."""

    @property
    def limit(self) -> int:
        """Most items."""

    @property
    def offset(self) -> int:
        """Items to be passed over."""


def text(request: Message, field: str) -> str:
    """The value of a text field; empty when the message has no such field."""
    return str(getattr(request, field, ""))


def target_of(resource: Resource, request: Message, call: Call) -> Target:
    """The collection that the request names."""
    return Target(text(request, resource.scope.id_field), call)


def row_id_of(resource: Resource, request: Message) -> str:
    """The row that the request names."""
    return text(request, resource.id_field)


def take_version(document: dict[str, Any]) -> int | None:
    """Removes the `version` from the body of a PUT; None when there is none. Raises ApiError 400."""
    version = document.pop("version", None)
    if version is None:
        return None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise invalid_input("version: there is no such version.")
    return version


def expected_version(request: Message, in_body: int | None, *, required: bool) -> int | None:
    """The version that the request asks for in If-Match, or else in the body's `version`; None for any.

    Raises ApiError 400, and 428 when it asks for none though one is required.
    """
    has_header = "if_match" in request.DESCRIPTOR.fields_by_name and request.HasField("if_match")
    if not has_header and in_body is not None:
        return in_body
    return preconditions.expected_version(text(request, "if_match") if has_header else None, required=required)
