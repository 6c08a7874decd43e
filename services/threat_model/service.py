"""The parts of the threat-model service, and the handlers of its RPCs."""

from collections.abc import Mapping, Sequence
from functools import partial

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from services.shared.database import Database, translate_database_error
from services.shared.rpc import add_service
from services.threat_model.children.assets import ASSETS
from services.threat_model.children.threats import THREATS
from services.threat_model.diagrams.declaration import DIAGRAMS
from services.threat_model.models.declaration import threat_model
from services.threat_model.people.copies import Principals
from services.threat_model.people.directory import PrincipalDirectory
from services.threat_model.resources.binding import Family, bind
from services.threat_model.resources.cascades import References
from services.threat_model.resources.declaration import Registry
from services.threat_model.schema import CONSTRAINTS
from services.threat_model.sequencer.handlers import Sequencer
from tmi.threat_model.v1 import (
    assets_pb2,
    diagrams_pb2,
    metadata_pb2,
    restoring_pb2,
    sequencer_pb2,
    threat_models_pb2,
    threats_pb2,
)

CHILDREN = (DIAGRAMS, ASSETS, THREATS)
"""Every kind of child of a threat model, in the order of their locks: what others refer to comes first.

A new kind is added here, and its gRPC service below.
"""

CELL_REFERENCES = References("cell", Registry(CHILDREN))
"""The references of children to cells of diagrams."""

SERVICES: Mapping[str, ServiceDescriptor] = {
    "threat_model": threat_models_pb2.DESCRIPTOR.services_by_name["ThreatModels"],
    "diagram": diagrams_pb2.DESCRIPTOR.services_by_name["Diagrams"],
    "asset": assets_pb2.DESCRIPTOR.services_by_name["Assets"],
    "threat": threats_pb2.DESCRIPTOR.services_by_name["Threats"],
}
"""The gRPC service with the operations of each resource, by kind: six, and those of the bulk ones that it declares."""

METADATA_SERVICE: ServiceDescriptor = metadata_pb2.DESCRIPTOR.services_by_name["Metadata"]
RESTORING_SERVICE: ServiceDescriptor = restoring_pb2.DESCRIPTOR.services_by_name["Restoring"]
SEQUENCER_SERVICE: ServiceDescriptor = sequencer_pb2.DESCRIPTOR.services_by_name["Sequencer"]


def families(people: Principals) -> list[Family]:
    """Every resource of the service. A new root is added here with its children."""
    return [Family(threat_model(CHILDREN, people), CHILDREN, SERVICES, (METADATA_SERVICE, RESTORING_SERVICE))]


_translate = partial(translate_database_error, constraints=CONSTRAINTS)


def add_services(
    server: grpc.Server, database: Database, directory: PrincipalDirectory, *, require_if_match: bool
) -> Sequence[str]:
    """Binds every RPC of this service; returns the full names of its gRPC services."""
    people = Principals(database, directory)
    http = bind(families(people), database, require_if_match=require_if_match)
    for descriptor, handlers in http:
        add_service(server, descriptor, people.observing(handlers), _translate)
    add_service(server, SEQUENCER_SERVICE, Sequencer(database, CELL_REFERENCES).handlers(), _translate)
    return [descriptor.full_name for descriptor, _ in http] + [SEQUENCER_SERVICE.full_name]
