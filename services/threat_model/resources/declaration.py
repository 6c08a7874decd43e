"""What a resource declares; the engine in this folder does the rest.

A resource is a kind of locked, versioned, audited row: a root that stands by itself, such as a threat
model, or a child of one. The engine knows none of them by name.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, reduce
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Row, String, Table, func, literal_column

from services.shared.errors import ApiError
from services.shared.principal import Call
from services.shared.sql_dialect import Json, json_object, octets
from services.shared.uuids import uuid4
from services.threat_model.audit.recording import ChangeType
from services.threat_model.resources.bodies import Body
from services.threat_model.resources.filters import Filters

ROW_BYTES = 1024
"""What the names and numbers of a row's document are taken for, in bytes."""

Members = Mapping[str, Any]
"""Values of a document's members, as JSON data."""


@dataclass(frozen=True)
class Scope:
    """The root that rows stand under, and who has which role on it.

    root: its table. id_field: the request field, and the column of children, with its id. path: of its
    collection, `/threat_models`. live: it is there for its callers. role: the caller's role on it as SQL
    that correlates to `root`, NULL for none. visible: the caller has a role on it, as a predicate that
    leads the list of roots. missing: the 404 for one that is unknown or deleted.
    """

    root: Table
    id_field: str
    path: str
    live: ColumnElement[bool]
    role: ColumnElement[int]
    visible: ColumnElement[bool]
    missing: Callable[[], ApiError]


@dataclass(frozen=True)
class InParent:
    """What a kind of children means to its parent.

    embedded: the parent's document holds the whole live children under their plural name. counted_as:
    member of the parent's list item that counts them, None for none. cascades: they are deleted and
    restored with their parent.
    """

    embedded: bool
    counted_as: str | None
    cascades: bool


@dataclass(frozen=True)
class Reference:
    """Columns that are cleared when the row of another kind that the first of them names is deleted.

    within: for the kind of a part of rows, such as the cells of a diagram: the column with the id of the row
    that the part belongs to, NULL when it is not said.
    """

    kind: str
    columns: Sequence[str]
    within: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """One write within its transaction, as rules see it.

    row: as locked, with the columns of `Rules.reads`; None for a new one. before: the members that were
    read of it; empty for a new one. values: the members to be set, checked by the body model.
    prepared: what `Rules.prepare` answered.
    """

    connection: Connection
    call: Call
    change_type: ChangeType
    scope_id: str
    row_id: str
    row: Row[Any] | None
    before: Members
    values: Members
    prepared: Any
    now: datetime

    @property
    def after(self) -> dict[str, Any]:
        """The members that were read, as they will be."""
        return {**self.before, **self.values}


@dataclass(frozen=True, slots=True)
class Stored:
    """Columns to be written for a write's values. remembered: former values of members that change by
    consequence, for the history. gone: ids of the row's parts that are no more, by kind.
    """

    columns: dict[str, Any]
    remembered: Members = field(default_factory=dict)
    gone: Mapping[str, Collection[str]] = field(default_factory=dict)


class Rules:
    """What is special about one resource. The defaults are the ordinary case.

    Unless said otherwise a method runs inside the transaction of the write; raising ApiError takes it back.
    """

    prepares: frozenset[str] = frozenset()
    """Members whose values must be prepared before the transaction."""

    def prepare(self, call: Call, change_type: ChangeType, values: Members, present: Callable[[], Row[Any]]) -> Any:
        """Asks other services about values, before the transaction. present: the row without a lock."""

    def reads(self, members: frozenset[str]) -> Sequence[ColumnElement[Any]]:  # noqa: ARG002
        """Further columns that a write of these members has to see of its row."""
        return ()

    def guard(self, row: Row[Any], members: frozenset[str] | None) -> None:
        """Refuses a write of these members (None: a deletion) that the present state of the row forbids."""

    def check(self, write: Write) -> None:
        """Refuses values that do not fit, or that the caller may not set."""

    def store(self, write: Write) -> Stored:
        """Column values, after storing what an existing row keeps outside itself."""
        return Stored(dict(write.values))

    def restore(self, row: Row[Any]) -> None:
        """Refuses the restoration of a deleted row, locked, with the columns of `reads`."""

    def created(self, write: Write) -> None:
        """Stores what a new row keeps outside itself."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Declaration of one kind of row.

    kind: in audit entries, events and aliases. members: the document, member by member in order, as SQL
    that makes JSON text; a write reads only those that it names. embedded: further members of the document,
    which are other resources' rows. when_new: members that look into other tables, as they are in a new row.
    list_members: of list items. create_body, replace_body: models of
    POST and of PUT. patch_body: what a PATCH must leave; its fields are the members that it may change.
    read_only: members whose presence in a POST or PUT body is an error. left_alone: members that a PUT
    without them does not clear. together: members that are read when one of them is written, because a
    rule looks at both. untold: members whose former values the history keeps elsewhere. references: to
    other kinds of the same root. in_parent: None for a root. bulk_creates: a bulk PUT
    may choose the ids of new rows. rpc_names: the plural in the names of RPCs where it is not `plural`.
    """

    kind: str
    name: str
    plural: str
    table: Table
    scope: Scope
    in_parent: InParent | None
    members: Mapping[str, ColumnElement[Any]]
    list_members: Mapping[str, ColumnElement[Any]]
    create_body: type[Body]
    replace_body: type[Body]
    patch_body: type[Body]
    filters: Filters = field(default_factory=dict)
    sort_keys: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    default_order: Sequence[ColumnElement[Any]] = ()
    embedded: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    when_new: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    read_only: Sequence[str] = ()
    left_alone: frozenset[str] = frozenset()
    together: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()
    references: Sequence[Reference] = ()
    most_metadata: int = 100
    most_in_bulk: int = 20
    bulk_creates: bool = False
    rpc_names: str = ""
    new_id: Callable[[], str] = uuid4
    rules: Rules = field(default_factory=Rules)

    @property
    def is_root(self) -> bool:
        """True when its rows stand by themselves."""
        return self.in_parent is None

    @property
    def names(self) -> str:
        """The plural as it stands in the names of RPCs."""
        return self.rpc_names or self.plural.title().replace("_", "")

    @property
    def id_field(self) -> str:
        """Request field with the row's id."""
        return self.scope.id_field if self.is_root else f"{self.kind}_id"

    @cached_property
    def document(self) -> ColumnElement[str]:
        """What GET and every write answer, and what the parent embeds."""
        return json_object({**self.members, **self.embedded})

    @cached_property
    def row_bytes(self) -> ColumnElement[int]:
        """About how many bytes a row has in the document, as SQL: its texts, and its names and numbers."""
        texts = [column for column in self.table.c if isinstance(column.type, String | Json)]
        sizes = [func.coalesce(octets(column), literal_column("0")) for column in texts]
        return reduce(add, sizes, literal_column(str(ROW_BYTES), Integer()))

    @cached_property
    def list_item(self) -> ColumnElement[str]:
        """The document of a list item."""
        return json_object(self.list_members)

    def location(self, scope_id: str, row_id: str) -> str:
        """Path of a row."""
        if self.is_root:
            return f"{self.scope.path}/{row_id}"
        return f"{self.scope.path}/{scope_id}/{self.plural}/{row_id}"

    def missing(self) -> ApiError:
        """404 for a row that is unknown, deleted or another root's."""
        if self.is_root:
            return self.scope.missing()
        return ApiError(404, "not_found", f"There is no such {self.kind.replace('_', ' ')} here.")


class Registry:
    """Every resource of the service, and what they are to each other."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self.resources = tuple(resources)

    def cascading(self, resource: Resource) -> list[Resource]:
        """Kinds of children that are deleted and restored with a root, in the order of their locks."""
        return [child for child in self.children(resource) if child.in_parent and child.in_parent.cascades]

    def children(self, resource: Resource) -> list[Resource]:
        """Kinds of children of a root."""
        if not resource.is_root:
            return []
        return [child for child in self.resources if not child.is_root and child.scope.root is resource.table]

    def embedded_beside(self, resource: Resource) -> list[Resource]:
        """Kinds of children, itself among them, that the root of an embedded kind of children embeds."""
        if resource.in_parent is None or not resource.in_parent.embedded:
            return []
        return [
            each
            for each in self.resources
            if each.in_parent and each.in_parent.embedded and each.scope.root is resource.scope.root
        ]

    def referrers(self, kind: str) -> list[tuple[Resource, Reference]]:
        """Kinds whose rows may name a row, or a part of a row, of this kind."""
        return [
            (other, reference) for other in self.resources for reference in other.references if reference.kind == kind
        ]

    def parts(self, resource: Resource) -> set[str]:
        """Kinds of parts of its rows that others may name."""
        return {ref.kind for other in self.resources for ref in other.references if ref.within == resource.id_field}
