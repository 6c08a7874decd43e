"""Roles on a threat model or another root: one SQL expression that every query carries."""

from sqlalchemy import ColumnElement, ScalarSelect, Table, bindparam, func, select

from services.shared.principal import group_ids
from services.shared.sql_dialect import UuidList, is_one_of
from services.threat_model.access.tables import threat_model_access
from tmi.principal.v1.principal_pb2 import Principal

PRINCIPAL_IDS = "principal_ids"
"""Name of the parameter that holds the ids whose access entries count for the caller."""


def principal_ids(principal: Principal) -> list[str]:
    """Value of PRINCIPAL_IDS: the user, the user's groups, and everyone."""
    return [principal.user_id, *group_ids(principal)]


def is_callers(principal_id: ColumnElement[str] = threat_model_access.c.principal_id) -> ColumnElement[bool]:
    """The row of a table of members or access entries counts for the caller."""
    return is_one_of(principal_id, bindparam(PRINCIPAL_IDS, type_=UuidList()))


def role_in(members: Table, of: ColumnElement[str], root_id: ColumnElement[str]) -> ScalarSelect[int]:
    """The caller's highest role on a root, NULL for none. Correlates to the table of `root_id`.

    members: the table that says who has which role, with the columns `principal_id` and `role`; of: its
    column that names the root.
    """
    return (
        select(func.max(members.c.role))
        .where(of == root_id, is_callers(members.c.principal_id))
        .correlate_except(members)
        .scalar_subquery()
    )


def role_on(threat_model_id: ColumnElement[str]) -> ScalarSelect[int]:
    """The caller's highest role on a threat model, NULL for none."""
    return role_in(threat_model_access, threat_model_access.c.threat_model_id, threat_model_id)
