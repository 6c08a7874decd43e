"""What an RPC declares about itself as an HTTP operation, read and judged once, when a process starts.

A declaration that cannot be followed to the letter is refused: an option that were ignored would be a
promise to whoever reads the proto, and sometimes a hole.
"""

import re
from dataclasses import dataclass

from google.api.annotations_pb2 import http as http_extension
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from services.shared.access import requirement_of
from services.shared.startup import CannotStart
from tmi.options.v1.options_pb2 import Operation, Parameter, RateTier
from tmi.options.v1.options_pb2 import operation as operation_extension
from tmi.options.v1.options_pb2 import parameter as parameter_extension

BODY_TYPE = "google.api.HttpBody"
_VERBS = ("get", "post", "put", "patch", "delete")
_PATH = re.compile(r"/|(/([A-Za-z0-9._~-]+|\{\w+\}))+")
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")

_PLACES = {"header", "cookie", "required", "default_value"}
_REPETITION = {"max_items", "comma_separated"}
_NUMBER = {"minimum", "maximum"}
_LIMITS: dict[int, tuple[set[str], ...]] = {
    FieldDescriptor.TYPE_STRING: ({"format"}, {"values"}, {"max_length", "pattern"}),
    FieldDescriptor.TYPE_BOOL: (set(),),
    FieldDescriptor.TYPE_INT32: (_NUMBER,),
    FieldDescriptor.TYPE_INT64: (_NUMBER,),
    FieldDescriptor.TYPE_DOUBLE: (_NUMBER,),
}
"""By type of a parameter: the groups of limits that it may declare. Limits of two groups exclude each other."""


class InvalidDeclaration(CannotStart):
    """An RPC declares what cannot be followed. The message names it and says what is wrong."""

    def __init__(self, method: MethodDescriptor, problem: str) -> None:
        super().__init__(f"The declaration of {method.full_name} cannot be used: {problem}.")


@dataclass(frozen=True)
class Binding:
    """A verb in upper case, a path template, and the request field that holds the body (empty for none)."""

    verb: str
    path: str
    body_field: str


@dataclass(frozen=True)
class Declaration:
    """All that an RPC declares; bindings and operation ids are in the same order."""

    operation: Operation
    bindings: tuple[Binding, ...]
    operation_ids: tuple[str, ...]


def path_parameters(path: str) -> tuple[str, ...]:
    """Names of the parameters of a path template, in its order."""
    return tuple(_PATH_PARAMETER.findall(path))


def read(method: MethodDescriptor) -> Declaration | None:
    """The declaration of an RPC, None for one that is not reachable over HTTP. Raises InvalidDeclaration."""
    try:
        return _read(method)
    except ValueError as error:
        raise InvalidDeclaration(method, str(error)) from None


def _read(method: MethodDescriptor) -> Declaration | None:
    options = method.GetOptions()
    operation: Operation = options.Extensions[operation_extension]
    if not options.HasExtension(http_extension):
        if options.HasExtension(operation_extension):
            raise ValueError("it describes an operation, but has no path")
        return None
    rule: HttpRule = options.Extensions[http_extension]
    bindings = (_binding(rule), *(_additional_binding(additional) for additional in rule.additional_bindings))
    _check_operation(operation, bindings)
    _check_messages(method, bindings)
    for binding in bindings:
        _check_path(method, binding.path)
    body_field = bindings[0].body_field
    in_a_path = {name for binding in bindings for name in path_parameters(binding.path)}
    for field in method.input_type.fields:
        if field.name != body_field:
            _check_parameter(field, in_path=field.name in in_a_path)
    return Declaration(operation, bindings, _operation_ids(method, operation, len(bindings)))


def _additional_binding(rule: HttpRule) -> Binding:
    if rule.additional_bindings:
        raise ValueError("a binding inside an additional binding is not possible")
    return _binding(rule)


def _binding(rule: HttpRule) -> Binding:
    verb = rule.WhichOneof("pattern")
    if verb not in _VERBS:
        raise ValueError(f"{verb or 'no'} verb is not possible")
    if rule.response_body:
        raise ValueError("response_body is not implemented")
    if rule.selector:
        raise ValueError("selector has no meaning here")
    return Binding(verb.upper(), getattr(rule, verb), rule.body)


def _check_operation(operation: Operation, bindings: tuple[Binding, ...]) -> None:
    requirement = requirement_of(operation.access)
    counts_users = operation.rate_tier == RateTier.RATE_TIER_RESOURCE_OPERATIONS
    if operation.rate_tier and counts_users != requirement.authenticated:
        raise ValueError("RESOURCE_OPERATIONS counts users, every other rate_tier those of whom nothing is known")
    if operation.success_status and not 200 <= operation.success_status < 400:
        raise ValueError(f"{operation.success_status} is no status of a success")
    if len({binding.body_field for binding in bindings}) > 1:
        raise ValueError("its bindings have different bodies")
    if (operation.consumes or operation.raw_body) and not bindings[0].body_field:
        raise ValueError("consumes and raw_body are for a body, and it has none")
    reads = [binding for binding in bindings if binding.verb == "GET"]
    if reads and bindings[0].body_field:
        raise ValueError("GET has no body")
    if (operation.no_head or operation.embeds) and not reads:
        raise ValueError("no_head and embeds are for GET")


def _check_messages(method: MethodDescriptor, bindings: tuple[Binding, ...]) -> None:
    if method.client_streaming:
        raise ValueError("a request cannot be streamed")
    if method.output_type.full_name != BODY_TYPE:
        raise ValueError(f"it does not return {BODY_TYPE}")
    name = bindings[0].body_field
    if name:
        field = method.input_type.fields_by_name.get(name)
        if field is None or field.is_repeated or not field.message_type or field.message_type.full_name != BODY_TYPE:
            raise ValueError(f"the request has no field {name} of type {BODY_TYPE} for the body")


def _check_path(method: MethodDescriptor, path: str) -> None:
    if not _PATH.fullmatch(path):
        raise ValueError(f"the path {path} is not made of names and {{parameters}}")
    names = path_parameters(path)
    if len(set(names)) < len(names):
        raise ValueError(f"the path {path} names a parameter twice")
    for name in names:
        if name not in method.input_type.fields_by_name:
            raise ValueError(f"the request has no field for the path parameter {name}")


def _check_parameter(field: FieldDescriptor, *, in_path: bool) -> None:
    name = field.name
    if field.type not in _LIMITS:
        raise ValueError(f"the field {name} has a type that a parameter cannot have")
    declared: Parameter = field.GetOptions().Extensions[parameter_extension]
    given = {option.name for option, _ in declared.ListFields()}
    if in_path and (field.is_repeated or field.has_presence or given & _PLACES):
        raise ValueError(f"the path parameter {name} is always there, once, and from the path")
    if {"header", "cookie"} <= given:
        raise ValueError(f"the field {name} comes from a header or from a cookie")
    limits = given - _PLACES - (_REPETITION if field.is_repeated else set())
    if not any(limits <= group for group in _LIMITS[field.type]):
        raise ValueError(f"the field {name} cannot have {', '.join(sorted(limits))} (together)")


def _operation_ids(method: MethodDescriptor, operation: Operation, bindings: int) -> tuple[str, ...]:
    declared = tuple(operation.operation_ids)
    if not declared and bindings == 1:
        return (method.name[0].lower() + method.name[1:],)
    if len(declared) != bindings or len(set(declared)) != bindings or "" in declared:
        raise ValueError(f"it needs {bindings} different operation_ids, one for each binding")
    return declared
