"""Roles on a threat model: one SQL expression that every query carries."""

from sqlalchemy import ColumnElement, ScalarSelect, bindparam, func, select

from services.shared.principal import group_ids
from services.shared.sql_dialect import UuidList, is_one_of
from services.threat_model.access.tables import threat_model_access
from tmi.principal.v1.principal_pb2 import Principal

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
