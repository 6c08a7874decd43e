"""The metadata that holds every table of the auth service: schema `auth` on PostgreSQL, none on SQLite.

Tables stand beside their owners, in `tables.py` of each folder. Ids are UUIDs as text, timestamps aware UTC.
"""

from services.shared.constraints import Constraints
from services.shared.database import service_metadata

SCHEMA = "auth"

metadata = service_metadata(SCHEMA)

_SAME_MOMENT = "The same account has just been recorded by another request: try again."

CONSTRAINTS = Constraints(
    metadata,
    messages={
        "uq_users_provider": _SAME_MOMENT,
        "uq_users_sparse_email": _SAME_MOMENT,
        "uq_groups_provider": "There is a group of this name already.",
    },
    missing={
        "groups": "There is no such group.",
        "users": "There is no such user.",
        "login_sessions": "The session does not exist any more.",
    },
)
