"""The HTTP operations that the compiled protos declare.

One reading of the descriptors for all: the gateway routes on it, services authorize from it,
tests and the OpenAPI document walk it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from google.api.annotations_pb2 import http as http_extension
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor

from services.shared.access import Requirement, requirement_of
from tmi.auth.v1 import me_pb2, oauth_pb2
from tmi.collaboration.v1 import sessions_pb2
from tmi.health.v1 import health_pb2
from tmi.options.v1.options_pb2 import Operation, Parameter
from tmi.options.v1.options_pb2 import operation as operation_extension
from tmi.options.v1.options_pb2 import parameter as parameter_extension
from tmi.threat_model.v1 import diagrams_pb2, threat_models_pb2, threats_pb2

PUBLIC_FILES: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR
    for module in (oauth_pb2, me_pb2, threat_models_pb2, threats_pb2, diagrams_pb2, sessions_pb2, health_pb2)
)
"""Every proto file with HTTP operations. A new file is added here and nowhere else."""


@dataclass(frozen=True)
class HttpOperation:
    """One RPC as an HTTP operation."""

    method: MethodDescriptor
    verb: str
    path: str
    body_field: str
    declaration: Operation
    requirement: Requirement
    """What its caller has to be."""

    @property
    def rpc_path(self) -> str:
        """gRPC method path, `/package.Service/Method`."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def service(self) -> str:
        """Name of the service that answers: `auth`, `threat_model`, `collaboration` or `health`."""
        return self.method.containing_service.file.package.split(".")[1]

    @cached_property
    def parameters(self) -> tuple[tuple[FieldDescriptor, Parameter], ...]:
        """Request fields other than the body, each with its declaration."""
        return tuple(
            (field, field.GetOptions().Extensions[parameter_extension])
            for field in self.method.input_type.fields
            if field.name != self.body_field
        )

    @cached_property
    def consumes(self) -> tuple[str, ...]:
        """Media types accepted as the request body; empty when there is none."""
        if not self.body_field:
            return ()
        return tuple(self.declaration.consumes) or ("application/json",)

    @property
    def success_status(self) -> int:
        """Status of a success that names no other."""
        return self.declaration.success_status or 200


_VERBS = ("get", "post", "put", "patch", "delete")


def declaration_of(method: MethodDescriptor) -> HttpOperation | None:
    """The HTTP operation of an RPC, or None for an internal RPC.

    Raises ValueError for an RPC with a path whose access is not declared or not enforced: nothing is
    reachable by default.
    """
    options = method.GetOptions()
    if not options.HasExtension(http_extension):
        return None
    rule: HttpRule = options.Extensions[http_extension]
    declaration = options.Extensions[operation_extension]
    try:
        requirement = requirement_of(declaration.access)
    except ValueError as error:
        raise ValueError(f"{method.full_name} has an HTTP path, but {error}") from None
    verb = rule.WhichOneof("pattern")
    if verb not in _VERBS:
        raise ValueError(f"{method.full_name} has no supported HTTP verb")
    return HttpOperation(method, verb.upper(), getattr(rule, verb), rule.body, declaration, requirement)


def http_operations(files: Iterable[FileDescriptor] = PUBLIC_FILES) -> Iterator[HttpOperation]:
    """Every HTTP operation of the given files, in declaration order."""
    for file in files:
        services: Iterable[ServiceDescriptor] = file.services_by_name.values()
        for service in services:
            for method in service.methods:
                if operation := declaration_of(method):
                    yield operation
