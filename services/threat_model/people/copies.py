"""The service's own copy of users and groups: enough to name them in documents and lists.

A caller is copied when first seen, and again when its token says something new. Somebody named by
a client who is not known here is looked up in the auth service.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, func, or_, select, tuple_

from services.shared import sql_dialect
from services.shared.access_token import SERVICE_ACCOUNT_PREFIX
from services.shared.database import Database
from services.shared.errors import invalid_input
from services.shared.principal import EVERYONE_GROUP_ID, Call
from services.shared.rpc import Handler
from services.shared.sql_dialect import JsonOptional, JsonString, json_object
from services.threat_model.people.directory import PrincipalDirectory
from services.threat_model.people.tables import principals
from tmi.auth.v1.directory_pb2 import PrincipalQuery, PrincipalRecord, PrincipalType
from tmi.principal.v1.principal_pb2 import Principal

ANY_PROVIDER = "*"
_EVERYONE = "everyone"
_TYPES = {"user": PrincipalType.PRINCIPAL_TYPE_USER, "group": PrincipalType.PRINCIPAL_TYPE_GROUP}


@dataclass(frozen=True)
class PrincipalName:
    """How a client names a user or group: by provider_id, or by email when that is empty."""

    type: str
    provider: str
    provider_id: str = ""
    email: str = ""

    def __str__(self) -> str:
        return f"{self.type} {self.provider}:{self.provider_id or self.email}"


def members(table: Any) -> dict[str, ColumnElement[Any]]:
    """Members of a Principal document."""
    return {
        "principal_type": JsonString(table.c.type),
        "provider": JsonString(table.c.provider),
        "provider_id": JsonString(table.c.provider_id),
        "display_name": JsonOptional(JsonString(_display_name(table))),
        "email": JsonOptional(JsonString(table.c.email)),
    }


def document(principal_id: ColumnElement[Any]) -> ScalarSelect[str]:
    """The Principal document of an id, NULL for none. Correlates to the column's table."""
    table = principals.alias()
    return (
        select(json_object(members(table))).where(table.c.id == principal_id).correlate_except(table).scalar_subquery()
    )


def name_or_email(principal_id: ColumnElement[Any], like: ColumnElement[Any]) -> ColumnElement[bool]:
    """The principal's name or email, in lower case, matches an escaped LIKE pattern."""
    table = principals.alias()
    matches = or_(*(func.lower(column).like(like, escape="\\") for column in (table.c.display_name, table.c.email)))
    return select(table.c.id).where(table.c.id == principal_id, matches).correlate_except(table).exists()


def _display_name(table: Any) -> ColumnElement[Any]:
    return func.coalesce(table.c.display_name, table.c.email, table.c.provider_id)


class Principals:
    """Keeps the copy up to date and finds ids in it."""

    def __init__(self, database: Database, directory: PrincipalDirectory) -> None:
        self._database = database
        self._directory = directory
        self._seen = lru_cache(maxsize=10_000)(self._see)

    def observing(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The handlers, each preceded by a look at its caller. A caller seen before costs no statement."""

        def observe(handler: Handler) -> Handler:
            def handle(request: Any, call: Call) -> Any:
                self.remember(call.caller)
                return handler(request, call)

            return handle

        return {name: observe(handler) for name, handler in handlers.items()}

    def remember(self, caller: Principal) -> None:
        """Copies what the token says about the caller, if it is new."""
        self._seen(
            caller.user_id,
            caller.provider,
            caller.provider_id,
            caller.display_name,
            caller.email,
            service_account=caller.is_service_account,
        )

    def _see(
        self, user_id: str, provider: str, provider_id: str, display_name: str, email: str, *, service_account: bool
    ) -> None:
        row = {
            "id": user_id,
            "type": "user",
            "provider": provider,
            "provider_id": provider_id,
            "display_name": display_name or None,
            "email": email or None,
        }
        if service_account:
            # It acts as its owner, whose own name and id its token does not carry alone.
            row["provider_id"] = provider_id.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")[2] or provider_id
            row["display_name"] = None
        self._database.write(
            lambda connection: store(connection, [row], overwrite=not service_account), before_role=True
        )

    def resolve(self, names: Iterable[PrincipalName], call: Call, *, create_missing: bool) -> dict[PrincipalName, str]:
        """Internal ids by name, without the unknown.

        Asks the auth service only about those not known here; create_missing has it record the ones
        that it does not know either. Raises ApiError 503 when it is needed and cannot be reached,
        400 for a name that stands for nobody.
        """
        found = {name: _built_in(name) for name in names}
        wanted = [name for name, id_ in found.items() if id_ is None]
        if wanted:
            found |= self._database.read(lambda connection: _find(connection, wanted))
        missing = [name for name in wanted if found[name] is None]
        if missing:
            found |= self._look_up(missing, call, create_missing=create_missing)
        known = {name: id_ for name, id_ in found.items() if id_ is not None}
        if create_missing and len(known) < len(found):
            unknown = next(name for name in found if name not in known)
            raise invalid_input(f"There is no {unknown}.")
        return known

    def _look_up(
        self, names: Sequence[PrincipalName], call: Call, *, create_missing: bool
    ) -> dict[PrincipalName, str | None]:
        records = dict(zip(names, self._directory.resolve([_query(name) for name in names], call), strict=True))
        emails = [name for name in names if not records[name].found and name.type == "user" and "@" in name.provider_id]
        if emails:
            # Clients write an email where the provider's id belongs.
            queries = [_query(PrincipalName("user", name.provider, email=name.provider_id)) for name in emails]
            records |= zip(emails, self._directory.resolve(queries, call), strict=True)
        unknown = [name for name in names if not records[name].found]
        if unknown and create_missing:
            queries = [_query(name, create_missing=True) for name in unknown]
            records |= zip(unknown, self._directory.resolve(queries, call), strict=True)
        rows = [_row(record) for record in records.values() if record.found]
        if rows:
            self._database.write(lambda connection: store(connection, rows, overwrite=True), before_role=True)
        return {name: record.id if record.found else None for name, record in records.items()}


def store(connection: Connection, rows: Sequence[Mapping[str, Any]], *, overwrite: bool) -> None:
    """Writes principals; those already there are brought up to date, or left alone."""
    statement = sql_dialect.insert(connection, principals)
    if overwrite:
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=[principals.c.id],
            set_={name: new[name] for name in ("provider", "provider_id", "display_name", "email")},
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=[principals.c.id])
    connection.execute(statement, list(rows))


def _built_in(name: PrincipalName) -> str | None:
    if name.type == "group" and name.provider_id == _EVERYONE:
        return EVERYONE_GROUP_ID
    if name.provider == ANY_PROVIDER:
        raise invalid_input(f"provider: {ANY_PROVIDER} is only possible for the group {_EVERYONE}.")
    return None


def _find(connection: Connection, names: Sequence[PrincipalName]) -> dict[PrincipalName, str | None]:
    c = principals.c
    by_id = [(name.type, name.provider, name.provider_id) for name in names if name.provider_id]
    by_email = [
        (name.type, name.provider, (name.provider_id or name.email).lower())
        for name in names
        if not name.provider_id or (name.type == "user" and "@" in name.provider_id)
    ]
    matches = []
    if by_id:
        matches.append(tuple_(c.type, c.provider, c.provider_id).in_(by_id))
    if by_email:
        matches.append(tuple_(c.type, c.provider, func.lower(c.email)).in_(by_email))
    rows = connection.execute(select(c.id, c.type, c.provider, c.provider_id, c.email).where(or_(*matches))).all()
    ids = {(row.type, row.provider, row.provider_id): row.id for row in rows}
    emails = {(row.type, row.provider, row.email.lower()): row.id for row in rows if row.email}
    found: dict[PrincipalName, str | None] = {}
    for name in names:
        email = name.email if not name.provider_id else name.provider_id
        by_own_id = ids.get((name.type, name.provider, name.provider_id)) if name.provider_id else None
        found[name] = by_own_id or emails.get((name.type, name.provider, email.lower()))
    return found


def _query(name: PrincipalName, *, create_missing: bool = False) -> PrincipalQuery:
    return PrincipalQuery(
        type=_TYPES[name.type],
        provider=name.provider,
        provider_id=name.provider_id,
        email=name.email,
        create_missing=create_missing,
    )


def _row(record: PrincipalRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "type": "group" if record.type == PrincipalType.PRINCIPAL_TYPE_GROUP else "user",
        "provider": record.provider,
        "provider_id": record.provider_id,
        "display_name": record.display_name or None,
        "email": record.email or None,
    }
