"""Which row an RPC that serves many kinds of owners is about.

Such an RPC has a path for each kind, and its request a field for each id: the one that the path set tells.
"""

from collections.abc import Sequence

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from services.shared.operations import operations_of
from services.shared.principal import Call
from services.shared.startup import CannotStart
from services.threat_model.resources.requests import row_id_of, target_of
from services.threat_model.resources.rows import Rows, Target


class Owners:
    """A root and its children, as the owners that the RPCs of a gRPC service name."""

    def __init__(self, rows: Sequence[Rows], service: ServiceDescriptor) -> None:
        """Raises CannotStart for a path with the id of something else: it would be taken for the root."""
        self._children = [each for each in rows if not each.resource.is_root]
        (self._root,) = (each for each in rows if each.resource.is_root)
        known = {each.resource.id_field for each in rows}
        for method in service.methods:
            for operation in operations_of(method):
                ids = {name for name in operation.path_parameters if name.endswith("_id")}
                if unknown := ids - known:
                    raise CannotStart(f"{method.full_name} has a path with {min(unknown)}, which no resource has.")

    def of(self, request: Message, call: Call) -> tuple[Rows, Target, str]:
        """The rows of its kind, their root, and its id."""
        named = [each for each in self._children if row_id_of(each.resource, request)]
        rows = named[0] if named else self._root
        return rows, target_of(rows.resource, request, call), row_id_of(rows.resource, request)
