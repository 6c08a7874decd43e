import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from services.shared.operations import http_operations, operations_of
from tmi.auth.v1 import directory_pb2
from tmi.collaboration.v1 import rooms_pb2
from tmi.options.v1.options_pb2 import Access, Format
from tmi.threat_model.v1 import sequencer_pb2, threats_pb2

INTERNAL_METHODS = [
    method
    for module, service in ((directory_pb2, "Directory"), (sequencer_pb2, "Sequencer"), (rooms_pb2, "Rooms"))
    for method in module.DESCRIPTOR.services_by_name[service].methods
]


def test_every_operation_declares_its_access_and_a_distinct_route() -> None:
    operations = list(http_operations())
    routes = [(operation.verb, operation.path) for operation in operations]
    assert len(routes) == len(set(routes)) > 30
    assert all(operation.declaration.access != Access.ACCESS_UNSPECIFIED for operation in operations)


@pytest.mark.parametrize("method", INTERNAL_METHODS, ids=lambda method: method.full_name)
def test_what_services_say_to_each_other_has_no_route(method: MethodDescriptor) -> None:
    assert operations_of(method) == ()


def test_an_operation_tells_its_service_body_and_success() -> None:
    (create,) = operations_of(threats_pb2.DESCRIPTOR.services_by_name["Threats"].methods_by_name["CreateThreat"])
    assert create.operation_id == "createThreat"
    assert (create.service, create.verb, create.success_status) == ("threat_model", "POST", 201)
    assert create.consumes == ("application/json",)
    assert create.rpc_path == "/tmi.threat_model.v1.Threats/CreateThreat"
    assert [field.name for field, _ in create.parameters] == ["threat_model_id"]


def test_a_path_parameter_says_what_it_looks_like() -> None:
    for operation in http_operations():
        for field, parameter in operation.parameters:
            if field.name in operation.path_parameters and field.type == FieldDescriptor.TYPE_STRING:
                assert parameter.format or parameter.pattern or parameter.values, operation.operation_id


def test_a_threat_model_is_always_named_by_a_uuid() -> None:
    for operation in http_operations():
        for field, parameter in operation.parameters:
            assert field.name != "threat_model_id" or parameter.format == Format.FORMAT_UUID
