"""Binding the RPCs of the threat-model service to their handlers."""

from collections.abc import Mapping, Sequence
from functools import partial

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from services.shared.database import Database, translate_database_error
from services.shared.rpc import Handler, add_service
from services.threat_model.children.threats import THREATS
from services.threat_model.diagrams.declaration import DIAGRAMS
from services.threat_model.models.handlers import ThreatModelHandlers
from services.threat_model.people.copies import Principals
from services.threat_model.people.directory import PrincipalDirectory
from services.threat_model.resources.handlers import SubResourceHandlers
from services.threat_model.schema import CONSTRAINTS
from services.threat_model.sequencer.handlers import Sequencer
from tmi.threat_model.v1 import diagrams_pb2, sequencer_pb2, threat_models_pb2, threats_pb2

THREAT_MODELS_SERVICE: ServiceDescriptor = threat_models_pb2.DESCRIPTOR.services_by_name["ThreatModels"]
SEQUENCER_SERVICE: ServiceDescriptor = sequencer_pb2.DESCRIPTOR.services_by_name["Sequencer"]
SUB_RESOURCES = (
    (threats_pb2.DESCRIPTOR.services_by_name["Threats"], THREATS),
    (diagrams_pb2.DESCRIPTOR.services_by_name["Diagrams"], DIAGRAMS),
)
"""The gRPC service of each sub-resource with its declaration. A new sub-resource is added here."""

_translate = partial(translate_database_error, constraints=CONSTRAINTS)


def add_services(
    server: grpc.Server, database: Database, directory: PrincipalDirectory, *, require_if_match: bool
) -> Sequence[str]:
    """Binds every RPC of this service; returns the full names of its gRPC services."""
    principals = Principals(database, directory)
    threat_models = ThreatModelHandlers(database, principals, require_if_match=require_if_match)
    http: list[tuple[ServiceDescriptor, Mapping[str, Handler]]] = [(THREAT_MODELS_SERVICE, threat_models.handlers())]
    for descriptor, resource in SUB_RESOURCES:
        sub_resource = SubResourceHandlers(resource, database, require_if_match=require_if_match)
        http.append((descriptor, sub_resource.handlers()))
    for descriptor, handlers in http:
        add_service(server, descriptor, principals.observing(handlers), _translate)
    add_service(server, SEQUENCER_SERVICE, Sequencer(database).handlers(), _translate)
    return [descriptor.full_name for descriptor, _ in http] + [SEQUENCER_SERVICE.full_name]
