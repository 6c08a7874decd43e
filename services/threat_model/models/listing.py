"""The list of the threat models that the caller has a role on: one statement, led by the access index."""

from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Integer, Select, Text, and_, bindparam, func, or_, select

from services.shared.database import Database
from services.shared.errors import forbidden, invalid_input
from services.shared.principal import Call
from services.shared.rpc import Reply
from services.shared.sql_dialect import json_array
from services.threat_model.access import roles as access
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.models.documents import LIST_ITEM
from services.threat_model.people.copies import name_or_email
from services.threat_model.resources import filters
from services.threat_model.resources.filters import Filter, Filters, instant

_c = threat_models.c

_NOBODY, _SOMEBODY = "is:null", "is:notnull"


def _reviewer(value: str) -> str:
    prefix, colon, _ = value.partition(":")
    if value in (_NOBODY, _SOMEBODY):
        return value
    if colon and 1 <= len(prefix) <= 3 and prefix.isalpha():
        raise invalid_input(f"security_reviewer: {_NOBODY} and {_SOMEBODY} are the only operators.")
    return filters.like_pattern(value)


def _reviewed(value: BindParameter[Any]) -> ColumnElement[bool]:
    reviewer = _c.security_reviewer_id
    return or_(
        and_(value == _NOBODY, reviewer.is_(None)),
        and_(value == _SOMEBODY, reviewer.is_not(None)),
        name_or_email(reviewer, value),
    )


_FILTERS: Filters = {
    "owner": Filter(Text(), lambda value: name_or_email(_c.owner_id, value), filters.like_pattern),
    "name": filters.contains(_c.name),
    "description": filters.contains(_c.description),
    "issue_uri": filters.contains(_c.issue_uri),
    "created_after": instant(filters.at_least(_c.created_at)),
    "created_before": instant(filters.at_most(_c.created_at)),
    "modified_after": instant(filters.at_least(_c.modified_at)),
    "modified_before": instant(filters.at_most(_c.modified_at)),
    "status_updated_after": instant(filters.at_least(_c.status_updated)),
    "status_updated_before": instant(filters.at_most(_c.status_updated)),
    "status": filters.one_of(_c.status),
    "security_reviewer": Filter(Text(), _reviewed, _reviewer),
}


def list_threat_models(database: Database, request: Any, call: Call) -> Reply:
    """A page of the caller's threat models, newest first. Deleted ones are for administrators."""
    if request.include_deleted and not call.caller.is_administrator:
        raise forbidden("Only an administrator may list deleted threat models.")
    values = filters.present(_FILTERS, request)
    statement = _page(tuple(sorted(values)), include_deleted=request.include_deleted)
    parameters = values | {
        access.PRINCIPAL_IDS: access.principal_ids(call.caller),
        "limit": request.limit,
        "offset": request.offset,
    }
    row = database.read(lambda connection: connection.execute(statement, parameters).one_or_none())
    assert row is not None
    return Reply(
        b'{"threat_models":%b,"total":%d,"limit":%d,"offset":%d}'
        % (row.page.encode(), row.total, request.limit, request.offset)
    )


@lru_cache(maxsize=256)
def _page(filter_names: tuple[str, ...], *, include_deleted: bool) -> Select[int, str]:
    visible = select(threat_model_access.c.threat_model_id).where(access.is_callers())
    matching = [_c.id.in_(visible), *filters.predicates(_FILTERS, filter_names)]
    if not include_deleted:
        matching.append(_c.deleted_at.is_(None))
    items = (
        select(LIST_ITEM)
        .where(*matching)
        .order_by(_c.created_at.desc(), _c.id)
        .limit(bindparam("limit", type_=Integer()))
        .offset(bindparam("offset", type_=Integer()))
    )
    total = select(func.count()).select_from(threat_models).where(*matching).scalar_subquery()
    return select(total.label("total"), json_array(items).label("page"))
