"""The service's own copy of users and groups: enough to name them in documents and lists.

A caller is copied when first seen, and again when its token says something new. Somebody named by
a client who is not known here by provider_id is looked up in the auth service, which alone says who is
meant by an address. `provider_id` is empty here as long as an address is all that is known of somebody.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, or_, select, tuple_

from services.shared import sql_dialect
from services.shared.access_token import SERVICE_ACCOUNT_PREFIX
from services.shared.database import Database
from services.shared.errors import invalid_input
from services.shared.principal import EVERYONE_GROUP_ID, Call
from services.shared.rpc import Handler
from services.threat_model.people.directory import PrincipalDirectory
from services.threat_model.people.names import PrincipalName
from services.threat_model.people.tables import principals
from tmi.auth.v1.directory_pb2 import PrincipalQuery, PrincipalRecord, PrincipalType
from tmi.principal.v1.principal_pb2 import Principal

ANY_PROVIDER = "*"
_EVERYONE = "everyone"
_TYPES = {"user": PrincipalType.PRINCIPAL_TYPE_USER, "group": PrincipalType.PRINCIPAL_TYPE_GROUP}


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

        A name whose provider_id is known here costs no call. All others, and everything that is meant by
        an address, are one question to the auth service; create_missing has it record the ones that it
        does not know either. Raises ApiError 503 when it is needed and cannot be reached, 400 for a name
        that stands for nobody.
        """
        found = {name: _built_in(name) for name in names}
        wanted = [name for name, id_ in found.items() if id_ is None]
        if wanted:
            found |= self._database.read(lambda connection: _find(connection, wanted))
        missing = [name for name in wanted if found[name] is None]
        if missing:
            found |= self._ask(missing, call, create_missing=create_missing)
        known = {name: id_ for name, id_ in found.items() if id_ is not None}
        if create_missing and len(known) < len(found):
            unknown = next(name for name in found if name not in known)
            raise invalid_input(f"There is no {unknown}.")
        return known

    def _ask(
        self, names: Sequence[PrincipalName], call: Call, *, create_missing: bool
    ) -> dict[PrincipalName, str | None]:
        queries = [_query(name, create_missing=create_missing) for name in names]
        records = self._directory.resolve(queries, call)
        rows = {record.id: _row(record) for record in records if record.found}
        if rows:
            self._database.write(lambda connection: store(connection, rows.values(), overwrite=True), before_role=True)
        return {name: record.id if record.found else None for name, record in zip(names, records, strict=True)}


def store(connection: Connection, rows: Iterable[Mapping[str, Any]], *, overwrite: bool) -> None:
    """Writes principals; those already there are brought up to date, or left alone.

    Rows of principals are locked here alone, in the order of their ids, so that two requests that name
    the same people never wait for each other crosswise. The transaction writes nothing else.
    """
    statement = sql_dialect.insert(connection, principals)
    if overwrite:
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=[principals.c.id],
            set_={name: new[name] for name in ("provider", "provider_id", "display_name", "email")},
            # What was answered before the first login may arrive after it.
            where=or_(new.provider_id != "", principals.c.provider_id == ""),
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=[principals.c.id])
    connection.execute(statement, sorted(rows, key=lambda row: str(row["id"])))


def _built_in(name: PrincipalName) -> str | None:
    if name.type == "group" and name.provider_id == _EVERYONE:
        return EVERYONE_GROUP_ID
    if name.provider == ANY_PROVIDER:
        raise invalid_input(f"provider: {ANY_PROVIDER} is only possible for the group {_EVERYONE}.")
    return None


def _find(connection: Connection, names: Sequence[PrincipalName]) -> dict[PrincipalName, str | None]:
    """Ids of those whose type, provider and provider_id are known here."""
    c = principals.c
    identities = {(name.type, name.provider, name.provider_id): name for name in names if name.provider_id}
    found: dict[PrincipalName, str | None] = dict.fromkeys(names)
    if identities:
        query = select(c.id, c.type, c.provider, c.provider_id)
        for row in connection.execute(query.where(tuple_(c.type, c.provider, c.provider_id).in_(list(identities)))):
            found[identities[row.type, row.provider, row.provider_id]] = row.id
    return found


def _query(name: PrincipalName, *, create_missing: bool) -> PrincipalQuery:
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
