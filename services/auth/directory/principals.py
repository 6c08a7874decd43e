"""Resolving the users and groups that clients name, for the services that store who may do what.

At most three statements however many are asked: one SELECT for all, then one INSERT each for the
unknown users and groups that are to be recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, String, literal, null, select, tuple_, union_all

from services.auth.directory.tables import groups, users
from services.auth.directory.users import owns_email
from services.auth.providers.identity import looks_like_address
from services.shared import sql_dialect
from services.shared.database import Database
from services.shared.principal import BUILT_IN_PROVIDER
from services.shared.uuids import uuid4
from tmi.auth.v1.directory_pb2 import PrincipalQuery, PrincipalRecord, PrincipalType

USER = PrincipalType.PRINCIPAL_TYPE_USER
GROUP = PrincipalType.PRINCIPAL_TYPE_GROUP
ANY_PROVIDER = "*"
_DISPLAY_NAME_LENGTH = 256
_EMAIL_LENGTH = 320


def resolve(database: Database, queries: Sequence[PrincipalQuery], now: datetime) -> list[PrincipalRecord]:
    """A record for every query, in order; `found` is false for the unknown.

    A user is found by provider and provider id, failing that by provider and e-mail address: that is
    the provider id when it looks like one, otherwise the query's `email`. The address finds a user who
    has logged in and whose provider vouches for it, then a row that is known by nothing else. Beside a
    provider id that is no address, `email` finds only the latter. An unknown user who is named by an
    address is recorded without a provider id, to be completed by whoever proves to be meant (see
    `users`); an `email` beside an id is a claim of whoever shared and is not recorded.

    A group is found by provider and name; provider `*` stands for `tmi`. A missing `tmi` group is never
    recorded: only administrators make those.
    """
    asked = [_Wanted.of(query) for query in queries]
    wanted = [want for want in asked if want.can_exist]
    if not wanted:
        return [PrincipalRecord(type=want.type) for want in asked]
    index = database.read(lambda connection: _load(connection, wanted))
    missing = [want for want in wanted if want.may_be_recorded and index.find(want) is None]
    if missing:
        index = database.write(lambda connection: _record(connection, wanted, missing, index, now))
    return [index.find(want) or PrincipalRecord(type=want.type) for want in asked]


@dataclass(frozen=True)
class _Wanted:
    type: PrincipalType.ValueType
    provider: str
    provider_id: str
    email: str
    create_missing: bool
    is_named_by_address: bool

    @classmethod
    def of(cls, query: PrincipalQuery) -> "_Wanted":
        provider = query.provider
        if query.type == GROUP and provider == ANY_PROVIDER:
            provider = BUILT_IN_PROVIDER
        email = query.email.strip().lower()
        is_address = looks_like_address(query.provider_id) and len(query.provider_id) <= _EMAIL_LENGTH
        return cls(
            type=query.type,
            provider=provider,
            provider_id=query.provider_id,
            email=query.provider_id.lower() if is_address else email,
            create_missing=query.create_missing,
            is_named_by_address=is_address or (not query.provider_id and bool(email)),
        )

    @property
    def can_exist(self) -> bool:
        """Whether the names fit the columns that would hold them."""
        names = ((self.provider, 100), (self.provider_id, 500), (self.email, _EMAIL_LENGTH))
        return all(len(name) <= longest and "\0" not in name for name, longest in names)

    @property
    def may_be_recorded(self) -> bool:
        """Whether an unknown one is to be recorded."""
        if not self.create_missing or not self.provider:
            return False
        if self.type == GROUP:
            return bool(self.provider_id) and self.provider != BUILT_IN_PROVIDER
        return self.type == USER and self.provider != ANY_PROVIDER and bool(self.provider_id or self.email)

    @property
    def key(self) -> tuple[str, str]:
        """What a new row is unique by."""
        return self.provider, self.email if self.type == USER and self.is_named_by_address else self.provider_id


@dataclass
class _Index:
    by_identity: dict[tuple[int, str, str], PrincipalRecord] = field(default_factory=dict)
    by_email: dict[tuple[str, str], PrincipalRecord] = field(default_factory=dict)

    def add(self, record: PrincipalRecord, *, owns_email: bool) -> None:
        if record.provider_id:
            self.by_identity[record.type, record.provider, record.provider_id] = record
        if record.type == USER and (owns_email or not record.provider_id):
            key = (record.provider, record.email)
            # Somebody who has logged in comes before a row that waits for its owner.
            if key not in self.by_email or record.provider_id:
                self.by_email[key] = record

    def find(self, want: _Wanted) -> PrincipalRecord | None:
        if want.provider_id and (found := self.by_identity.get((want.type, want.provider, want.provider_id))):
            return found
        if want.type != USER or not want.email:
            return None
        candidate = self.by_email.get((want.provider, want.email))
        if candidate is None:
            return None
        return candidate if want.is_named_by_address or not candidate.provider_id else None


def _load(connection: Connection, wanted: Sequence[_Wanted]) -> _Index:
    of_users = [want for want in wanted if want.type == USER]
    identities = {(want.provider, want.provider_id) for want in of_users if want.provider_id}
    addresses = {(want.provider, want.email) for want in of_users if want.email}
    names = {(want.provider, want.provider_id) for want in wanted if want.type == GROUP}
    parts = []
    columns = (
        literal(USER).label("type"),
        users.c.id,
        users.c.provider,
        users.c.provider_id,
        users.c.display_name,
        users.c.email,
        owns_email().label("owns_email"),
    )
    if identities:
        parts.append(select(*columns).where(tuple_(users.c.provider, users.c.provider_id).in_(sorted(identities))))
    if addresses:
        parts.append(select(*columns).where(tuple_(users.c.provider, users.c.email).in_(sorted(addresses))))
    if names:
        parts.append(
            select(
                literal(GROUP).label("type"),
                groups.c.id,
                groups.c.provider,
                groups.c.group_name,
                groups.c.display_name,
                null().cast(String).label("email"),
                literal(False).label("owns_email"),
            ).where(tuple_(groups.c.provider, groups.c.group_name).in_(sorted(names)))
        )
    index = _Index()
    if parts:
        for kind, identifier, provider, provider_id, display_name, email, owned in connection.execute(
            union_all(*parts)
        ):
            index.add(
                _found(kind, identifier, provider, provider_id or "", display_name, email or ""),
                owns_email=bool(owned),
            )
    return index


def _record(
    connection: Connection, wanted: Sequence[_Wanted], missing: Sequence[_Wanted], index: _Index, now: datetime
) -> _Index:
    new_users = {want.key: want for want in missing if want.type == USER}
    new_groups = {want.key: want for want in missing if want.type == GROUP}
    # Users before groups, each sorted: two callers who record the same never wait for each other crosswise.
    recorded = 0
    if new_users:
        rows = connection.execute(
            sql_dialect.insert(connection, users)
            .values([_sparse_user(want, now) for _, want in sorted(new_users.items())])
            .on_conflict_do_nothing()
            .returning(users)
        ).all()
        recorded += len(rows)
        for row in rows:
            record = _found(USER, row.id, row.provider, row.provider_id or "", row.display_name, row.email)
            index.add(record, owns_email=False)
    if new_groups:
        rows = connection.execute(
            sql_dialect.insert(connection, groups)
            .values([_group(want) for _, want in sorted(new_groups.items())])
            .on_conflict_do_nothing()
            .returning(groups)
        ).all()
        recorded += len(rows)
        for row in rows:
            index.add(_found(GROUP, row.id, row.provider, row.group_name, row.display_name, ""), owns_email=False)
    if recorded < len(new_users) + len(new_groups):
        # Somebody else recorded one of them at the same time.
        return _load(connection, wanted)
    return index


def _sparse_user(want: _Wanted, now: datetime) -> dict[str, object]:
    return {
        "id": uuid4(),
        "provider": want.provider,
        "provider_id": None if want.is_named_by_address else want.provider_id,
        "email": want.email if want.is_named_by_address else "",
        "display_name": (want.provider_id or want.email)[:_DISPLAY_NAME_LENGTH],
        "email_verified": False,
        "created_at": now,
        "last_login_at": None,
    }


def _group(want: _Wanted) -> dict[str, object]:
    return {
        "id": uuid4(),
        "provider": want.provider,
        "group_name": want.provider_id,
        "display_name": want.provider_id[:_DISPLAY_NAME_LENGTH],
    }


def _found(
    kind: PrincipalType.ValueType, identifier: str, provider: str, provider_id: str, display_name: str, email: str
) -> PrincipalRecord:
    return PrincipalRecord(
        found=True,
        type=kind,
        id=str(identifier),
        provider=provider,
        provider_id=provider_id,
        display_name=display_name,
        email=email,
    )
