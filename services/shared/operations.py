"""The HTTP operations that the compiled protos declare.

One reading of the descriptors for all: the gateway routes on it, services authorize from it,
tests and the OpenAPI document walk it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path

from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor

import tmi
from services.shared import declarations
from services.shared.access import Requirement, requirement_of
from services.shared.declarations import InvalidDeclaration
from tmi.options.v1.options_pb2 import Operation, Parameter, RateTier
from tmi.options.v1.options_pb2 import parameter as parameter_extension


@dataclass(frozen=True)
class HttpOperation:
    """One binding of an RPC to a verb and a path."""

    method: MethodDescriptor
    operation_id: str
    """Its name towards clients, unique among all operations."""
    verb: str
    path: str
    body_field: str
    declaration: Operation
    requirement: Requirement
    """What its caller has to be."""
    unbound: frozenset[str] = frozenset()
    """Fields that other bindings of the RPC take from their path: here they are always empty."""

    @property
    def rpc_path(self) -> str:
        """gRPC method path, `/package.Service/Method`."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def service(self) -> str:
        """Name of the service that answers: `auth`, `threat_model`, `collaboration` or `health`."""
        return self.method.containing_service.file.package.split(".")[1]

    @cached_property
    def path_parameters(self) -> tuple[str, ...]:
        """Names of the fields that the path gives, in its order."""
        return declarations.path_parameters(self.path)

    @cached_property
    def parameters(self) -> tuple[tuple[FieldDescriptor, Parameter], ...]:
        """Request fields that a request may set other than by its body, each with its declaration."""
        return tuple(
            (field, field.GetOptions().Extensions[parameter_extension])
            for field in self.method.input_type.fields
            if field.name != self.body_field and field.name not in self.unbound
        )

    @cached_property
    def consumes(self) -> tuple[str, ...]:
        """Media types accepted as the request body; empty when there is none."""
        if not self.body_field:
            return ()
        return tuple(self.declaration.consumes) or ("application/json",)

    @property
    def rate_tier(self) -> "RateTier.ValueType":
        """Which limit counts it."""
        if self.declaration.rate_tier:
            return self.declaration.rate_tier
        if self.requirement.authenticated:
            return RateTier.RATE_TIER_RESOURCE_OPERATIONS
        return RateTier.RATE_TIER_PUBLIC_DISCOVERY

    @property
    def streams(self) -> bool:
        """Whether the answer comes in chunks, as they are made."""
        return self.method.server_streaming

    @property
    def success_status(self) -> int:
        """Status of a success that names no other."""
        return self.declaration.success_status or 200


def operations_of(method: MethodDescriptor) -> tuple[HttpOperation, ...]:
    """The HTTP operations of an RPC, one for each binding in their order; none for an internal RPC.

    Raises InvalidDeclaration for what is incomplete, contradicts itself or is not implemented: nothing
    is reachable by default, and nothing that was declared is ignored.
    """
    declared = declarations.read(method)
    if declared is None:
        return ()
    in_any_path = {name for binding in declared.bindings for name in declarations.path_parameters(binding.path)}
    return tuple(
        HttpOperation(
            method,
            operation_id,
            binding.verb,
            binding.path,
            binding.body_field,
            declared.operation,
            requirement_of(declared.operation.access),
            frozenset(in_any_path.difference(declarations.path_parameters(binding.path))),
        )
        for binding, operation_id in zip(declared.bindings, declared.operation_ids, strict=True)
    )


@cache
def declared_files() -> tuple[FileDescriptor, ...]:
    """Every compiled proto file of this project, in the order of their names."""
    modules = {
        ".".join(("tmi", *path.relative_to(folder).with_suffix("").parts))
        for folder in tmi.__path__
        for path in Path(folder).rglob("*_pb2.py")
    }
    return tuple(import_module(module).DESCRIPTOR for module in sorted(modules))


def http_operations(files: Iterable[FileDescriptor] | None = None) -> Iterator[HttpOperation]:
    """Every HTTP operation of the files (None: of all), in declaration order. Raises InvalidDeclaration."""
    owners: dict[str, str] = {}
    for file in declared_files() if files is None else files:
        for service in file.services_by_name.values():
            for method in service.methods:
                for operation in operations_of(method):
                    owner = owners.setdefault(operation.operation_id, method.full_name)
                    if owner != method.full_name:
                        raise InvalidDeclaration(
                            method, f"its operation id {operation.operation_id} is that of {owner} as well"
                        )
                    yield operation
