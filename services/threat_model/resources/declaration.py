"""What a sub-resource of a threat model declares: the engine in `subresources` does the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table

from services.shared.sql_dialect import json_object
from services.shared.uuids import uuid4
from services.threat_model.resources.bodies import Body
from services.threat_model.resources.filters import Filters

Members = Mapping[str, Any]
"""Values of a document's members, as JSON data."""


class Rules:
    """What is special about one sub-resource. The defaults are the ordinary case.

    All methods run inside the transaction of the write; raising ApiError takes it back.
    """

    def guard(self, row: "Row[Any]") -> None:
        """Refuses a write that the present state of the row forbids."""

    def check(self, connection: Connection, threat_model_id: str, before: Members, after: Members) -> None:
        """Refuses values that do not fit the rest of the threat model. `before` is empty on create."""

    def store(
        self,
        connection: Connection,  # noqa: ARG002
        row: "Row[Any] | None",  # noqa: ARG002
        values: Members,
    ) -> dict[str, Any]:
        """Column values for the members that a body sets, after storing what is kept outside the row.

        row: the locked row as it was; None on create, where nothing can be stored outside yet.
        """
        return dict(values)

    def deleted(self, connection: Connection, row_id: str, now: datetime) -> str | None:  # noqa: ARG002
        """Does what else a soft delete means; says so for the audit entry."""
        return None


@dataclass(frozen=True)
class SubResource:
    """Declaration of one kind of child of a threat model.

    members: the document, member by member in order, as SQL that makes JSON text.
    lazy: one more member, an array, large and kept outside the row; empty in a new row. Only writes
        that name it parse it.
    list_members: names of the members that list items have.
    create_body, replace_body: models of POST and of PUT. patch_body: what a PATCH must leave; its
        fields are the members that a patch may change, and the lazy one may be absent.
    read_only: members whose presence in a POST or PUT body is an error.
    kept: members that a PUT without them leaves alone.
    locked: further columns that the rules need to see of a row about to be written.
    """

    kind: str
    name: str
    plural: str
    table: Table
    members: Mapping[str, ColumnElement[Any]]
    list_members: Sequence[str]
    create_body: type[Body]
    replace_body: type[Body]
    patch_body: type[Body]
    filters: Filters = field(default_factory=dict)
    sort_keys: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    default_order: Sequence[ColumnElement[Any]] = ()
    read_only: Sequence[str] = ()
    kept: Sequence[str] = ()
    lazy: tuple[str, ColumnElement[Any]] | None = None
    locked: Sequence[ColumnElement[Any]] = ()
    new_id: Callable[[], str] = uuid4
    rules: Rules = field(default_factory=Rules)

    @property
    def id_field(self) -> str:
        """Request field with the row's id."""
        return f"{self.kind}_id"

    @property
    def own_document(self) -> ColumnElement[str]:
        """The document without the lazy member."""
        return json_object(self.members)

    @property
    def document(self) -> ColumnElement[str]:
        """The whole document: what GET and every write answer and what the threat model embeds."""
        return json_object({**self.members, **dict([self.lazy] if self.lazy else [])})

    @property
    def list_item(self) -> ColumnElement[str]:
        """The document of a list item."""
        return json_object({name: self.members[name] for name in self.list_members})
