"""Roles on a threat model: one SQL expression that every query carries, one check of its value."""

from sqlalchemy import ColumnElement, ScalarSelect, bindparam, func, select

from services.shared.errors import ApiError, forbidden, not_found
from services.shared.principal import group_ids
from services.shared.sql_dialect import UuidList, is_one_of
from services.threat_model.access.tables import OWNER, READER, WRITER, threat_model_access
from tmi.options.v1.options_pb2 import Gate
from tmi.principal.v1.principal_pb2 import Principal

ROLE_NAMES = {READER: "reader", WRITER: "writer", OWNER: "owner"}

_REQUIRED_ROLES = {Gate.GATE_READER: READER, Gate.GATE_WRITER: WRITER, Gate.GATE_OWNER: OWNER}

PRINCIPAL_IDS = "principal_ids"
"""Name of the parameter that holds the ids whose access entries count for the caller."""


def principal_ids(principal: Principal) -> list[str]:
    """Value of PRINCIPAL_IDS: the user, the user's groups, and everyone."""
    return [principal.user_id, *group_ids(principal)]


def is_callers() -> ColumnElement[bool]:
    """The access row counts for the caller."""
    return is_one_of(threat_model_access.c.principal_id, bindparam(PRINCIPAL_IDS, type_=UuidList()))


def role_on(threat_model_id: ColumnElement[str]) -> ScalarSelect[int]:
    """The caller's highest role on a threat model, NULL for none. Correlates to the column's table."""
    return (
        select(func.max(threat_model_access.c.role))
        .where(threat_model_access.c.threat_model_id == threat_model_id, is_callers())
        .correlate_except(threat_model_access)
        .scalar_subquery()
    )


def required_role(gate: "Gate.ValueType") -> int:
    """The role that a gate asks for; 0 when it asks for none."""
    return _REQUIRED_ROLES.get(gate, 0)


def require(role: int | None, gate: "Gate.ValueType") -> None:
    """Raises ApiError 403 when the role is not enough for the gate."""
    if (role or 0) < required_role(gate):
        raise forbidden("You do not have the role on this threat model that this needs.")


def no_threat_model() -> ApiError:
    """404 for a threat model that is unknown or deleted."""
    return not_found("There is no such threat model.")
