"""The parts of the threat-model service, and the handlers of its RPCs."""

from collections.abc import Mapping, Sequence
from functools import partial

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from services.shared.database import Database, translate_database_error
from services.shared.rpc import Handler, add_service
from services.threat_model.children.assets import ASSETS
from services.threat_model.children.threats import THREATS
from services.threat_model.diagrams.declaration import DIAGRAMS
from services.threat_model.models.declaration import threat_model
from services.threat_model.people.copies import Principals
from services.threat_model.people.directory import PrincipalDirectory
from services.threat_model.resources.bulk import Bulk
from services.threat_model.resources.declaration import Registry, Resource
from services.threat_model.resources.metadata import Metadata
from services.threat_model.resources.owners import Owners
from services.threat_model.resources.reading import Reading
from services.threat_model.resources.restoring import Restoring
from services.threat_model.resources.rows import Rows
from services.threat_model.resources.writing import Writing
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


def registry(people: Principals) -> Registry:
    """Every resource of the service."""
    return Registry([threat_model(CHILDREN, people), *CHILDREN])


_translate = partial(translate_database_error, constraints=CONSTRAINTS)


def add_services(
    server: grpc.Server, database: Database, directory: PrincipalDirectory, *, require_if_match: bool
) -> Sequence[str]:
    """Binds every RPC of this service; returns the full names of its gRPC services."""
    people = Principals(database, directory)
    http = http_handlers(database, people, require_if_match=require_if_match)
    for descriptor, handlers in http:
        add_service(server, descriptor, people.observing(handlers), _translate)
    add_service(server, SEQUENCER_SERVICE, Sequencer(database).handlers(), _translate)
    return [descriptor.full_name for descriptor, _ in http] + [SEQUENCER_SERVICE.full_name]


def http_handlers(
    database: Database, people: Principals, *, require_if_match: bool
) -> list[tuple[ServiceDescriptor, Mapping[str, Handler]]]:
    """The handlers of the HTTP operations by RPC name, of each gRPC service."""
    resources = registry(people)
    rows = [Rows(resource, resources) for resource in resources.resources]
    owners = Owners(rows)
    http: list[tuple[ServiceDescriptor, Mapping[str, Handler]]] = []
    for each in rows:
        service = SERVICES[each.resource.kind]
        handlers = _six_operations(each, database, require_if_match=require_if_match)
        bulk = _bulk_operations(each, database)
        declared = {method.name for method in service.methods}
        http.append((service, handlers | {name: bulk[name] for name in bulk.keys() & declared}))
    http.append((METADATA_SERVICE, _metadata_operations(Metadata(owners, database))))
    http.append((RESTORING_SERVICE, {"Restore": Restoring(owners, database).restore}))
    return http


def _six_operations(rows: Rows, database: Database, *, require_if_match: bool) -> dict[str, Handler]:
    """By RPC name."""
    name, names = rows.resource.name, _names(rows.resource)
    reading = Reading(rows, database)
    writing = Writing(rows, database, require_if_match=require_if_match)
    return {
        f"List{names}": reading.list,
        f"Create{name}": writing.create,
        f"Get{name}": reading.get,
        f"Replace{name}": writing.replace,
        f"Patch{name}": writing.patch,
        f"Delete{name}": writing.delete,
    }


def _bulk_operations(rows: Rows, database: Database) -> dict[str, Handler]:
    """By RPC name."""
    names = _names(rows.resource)
    bulk = Bulk(rows, database)
    return {
        f"BulkCreate{names}": bulk.create,
        f"BulkReplace{names}": bulk.replace,
        f"BulkPatch{names}": bulk.patch,
        f"BulkDelete{names}": bulk.delete,
    }


def _names(resource: Resource) -> str:
    """The plural as it stands in the names of RPCs."""
    return resource.plural.title().replace("_", "")


def _metadata_operations(metadata: Metadata) -> dict[str, Handler]:
    return {
        "ListMetadata": metadata.list,
        "CreateMetadata": metadata.create,
        "GetMetadata": metadata.get,
        "ReplaceMetadata": metadata.replace,
        "DeleteMetadata": metadata.delete,
        "BulkCreateMetadata": metadata.create_many,
        "BulkUpsertMetadata": metadata.upsert_many,
        "BulkReplaceMetadata": metadata.replace_all,
    }
