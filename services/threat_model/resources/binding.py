"""The handlers of the RPCs that serve a root and its children, by their names."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor

from services.shared.database import Database
from services.shared.rpc import Handler
from services.shared.startup import CannotStart
from services.threat_model.resources.bulk import Bulk
from services.threat_model.resources.declaration import Registry, Resource
from services.threat_model.resources.metadata import Metadata
from services.threat_model.resources.owners import Owners
from services.threat_model.resources.reading import Reading
from services.threat_model.resources.restoring import Restoring
from services.threat_model.resources.rows import Rows
from services.threat_model.resources.writing import Writing

Bound = tuple[ServiceDescriptor, Mapping[str, Handler]]


@dataclass(frozen=True)
class Family:
    """A root and its kinds of children with the gRPC services that serve them.

    children: in the order of their locks, what others refer to first. services: with the operations of each
    kind alone, by kind. shared: with those that have a path for each kind, metadata and restoration.
    """

    root: Resource
    children: Sequence[Resource]
    services: Mapping[str, ServiceDescriptor]
    shared: Sequence[ServiceDescriptor]


def bind(families: Sequence[Family], database: Database, *, require_if_match: bool) -> list[Bound]:
    """The handlers by RPC name, of each gRPC service. Raises CannotStart for a resource without a service."""
    registry = Registry([resource for family in families for resource in (family.root, *family.children)])
    bound: list[Bound] = []
    for family in families:
        rows = [Rows(resource, registry) for resource in (family.root, *family.children)]
        for each in rows:
            service = family.services.get(each.resource.kind)
            if service is None:
                raise CannotStart(f"The resource {each.resource.kind} has no gRPC service.")
            bound.append((service, _own(each, service, database, require_if_match=require_if_match)))
        bound += [(service, _shared(rows, service, database)) for service in family.shared]
    return bound


def _own(rows: Rows, service: ServiceDescriptor, database: Database, *, require_if_match: bool) -> dict[str, Handler]:
    """The six operations, and those of the bulk ones that are declared."""
    name, names = rows.resource.name, rows.resource.names
    reading = Reading(rows, database)
    writing = Writing(rows, database, require_if_match=require_if_match)
    bulk = Bulk(rows, database)
    several = {
        f"BulkCreate{names}": bulk.create,
        f"BulkReplace{names}": bulk.replace,
        f"BulkPatch{names}": bulk.patch,
        f"BulkDelete{names}": bulk.delete,
    }
    declared = {method.name for method in service.methods}
    return {
        f"List{names}": reading.list,
        f"Create{name}": writing.create,
        f"Get{name}": reading.get,
        f"Replace{name}": writing.replace,
        f"Patch{name}": writing.patch,
        f"Delete{name}": writing.delete,
    } | {name: handler for name, handler in several.items() if name in declared}


def _shared(rows: Sequence[Rows], service: ServiceDescriptor, database: Database) -> dict[str, Handler]:
    """Handlers by what the names begin and end with: `ListMetadata`, `ListTeamMetadata`."""
    owners = Owners(rows, service)
    metadata = Metadata(owners, database)
    by_form: dict[str, Callable[..., object]] = {
        r"List\w*Metadata": metadata.list,
        r"Create\w*Metadata": metadata.create,
        r"Get\w*Metadata": metadata.get,
        r"Replace\w*Metadata": metadata.replace,
        r"Delete\w*Metadata": metadata.delete,
        r"BulkCreate\w*Metadata": metadata.create_many,
        r"BulkUpsert\w*Metadata": metadata.upsert_many,
        r"BulkReplace\w*Metadata": metadata.replace_all,
        r"Restore\w*": Restoring(owners, database).restore,
    }
    return {
        method.name: handler
        for method in service.methods
        for form, handler in by_form.items()
        if re.fullmatch(form, method.name)
    }
