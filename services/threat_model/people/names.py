"""Users and groups as clients name them, and as documents show them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, func, or_, select

from services.shared.sql_dialect import JsonOptional, JsonString, json_object
from services.threat_model.people.tables import principals


@dataclass(frozen=True)
class PrincipalName:
    """How a client names a user or group: by provider_id, or by email when that is empty.

    Clients write an address as provider_id as well; what it means is for the auth service to say.
    """

    type: str
    provider: str
    provider_id: str = ""
    email: str = ""

    def __str__(self) -> str:
        return f"{self.type} {self.provider}:{self.provider_id or self.email}"


def members(table: Any) -> dict[str, ColumnElement[Any]]:
    """Members of a Principal document. Somebody known by an address alone has it as provider_id too."""
    provider_id = func.coalesce(func.nullif(table.c.provider_id, ""), table.c.email)
    return {
        "principal_type": JsonString(table.c.type),
        "provider": JsonString(table.c.provider),
        "provider_id": JsonString(provider_id),
        "display_name": JsonOptional(JsonString(func.coalesce(table.c.display_name, table.c.email, provider_id))),
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
