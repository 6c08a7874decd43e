"""Query filters of the list of threat models."""

from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Text, and_, or_

from services.shared.errors import invalid_input
from services.threat_model.access.tables import threat_models
from services.threat_model.models.bodies import known_status
from services.threat_model.people.names import name_or_email
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


FILTERS: Filters = {
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
    "status": filters.one_of(_c.status, known_status),
    "security_reviewer": Filter(Text(), _reviewed, _reviewer),
}
