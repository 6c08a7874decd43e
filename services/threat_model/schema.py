"""The metadata that holds every table of the threat-model service: schema `threat_model` on PostgreSQL, none on SQLite.

Tables stand beside their owners, in `tables.py` of each folder. Ids are UUIDs as text, timestamps aware UTC.
`version` counts the successful writes of a row and is its ETag; `deleted_at` marks a soft delete.
"""

from services.shared.constraints import Constraints
from services.shared.database import service_metadata

SCHEMA = "threat_model"

metadata = service_metadata(SCHEMA)

_ALIAS = "The number of this object has just been taken by another one: try again."

CONSTRAINTS = Constraints(
    metadata,
    messages={"uq_threat_models_alias": _ALIAS},
    missing={
        "threat_models": "There is no such threat model.",
        "diagrams": "There is no such diagram.",
        "principals": "Somebody who is named here does not exist.",
    },
)
