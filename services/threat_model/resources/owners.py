"""Which row an RPC that serves many kinds of owners is about.

Such an RPC has a path for each kind, and its request a field for each id: the one that the path set tells.
"""

from collections.abc import Sequence

from google.protobuf.message import Message

from services.shared.principal import Call
from services.threat_model.resources.requests import row_id_of, target_of
from services.threat_model.resources.rows import Rows, Target


class Owners:
    """The resources that an RPC serves: children, and their root."""

    def __init__(self, rows: Sequence[Rows]) -> None:
        self._children = [each for each in rows if not each.resource.is_root]
        (self._root,) = (each for each in rows if each.resource.is_root)

    def of(self, request: Message, call: Call) -> tuple[Rows, Target, str]:
        """The rows of its kind, their root, and its id."""
        named = [each for each in self._children if row_id_of(each.resource, request)]
        rows = named[0] if named else self._root
        return rows, target_of(rows.resource, request, call), row_id_of(rows.resource, request)
