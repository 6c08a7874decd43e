"""The metadata that holds every table of the threat-model service: schema `threat_model` on PostgreSQL, none on SQLite.

Tables stand beside their owners, in `tables.py` of each folder. Ids are UUIDs as text, timestamps aware UTC.
`version` counts the successful writes of a row and is its ETag; `deleted_at` marks a soft delete.
"""

from services.shared.constraints import Constraints
from services.shared.database import service_metadata

SCHEMA = "threat_model"

metadata = service_metadata(SCHEMA)

_ALIAS = "The number of this object has just been taken by another one: try again."
_NO_THREAT_MODEL = "There is no such threat model."
_NO_DIAGRAM = "There is no such diagram."
_NO_PERSON = "Somebody who is named here does not exist."

CONSTRAINTS = Constraints(
    metadata,
    {
        "uq_threat_models_alias": _ALIAS,
        "uq_threats_threat_model_id": _ALIAS,
        "uq_diagrams_threat_model_id": _ALIAS,
        "fk_threat_models_owner_id": _NO_PERSON,
        "fk_threat_models_created_by": _NO_PERSON,
        "fk_threat_models_security_reviewer_id": _NO_PERSON,
        "fk_threat_model_access_principal_id": _NO_PERSON,
        "fk_threat_model_access_threat_model_id": _NO_THREAT_MODEL,
        "fk_threats_threat_model_id": _NO_THREAT_MODEL,
        "fk_diagrams_threat_model_id": _NO_THREAT_MODEL,
        "fk_threats_diagram_id": _NO_DIAGRAM,
        "fk_diagram_cells_diagram_id": _NO_DIAGRAM,
        "fk_diagram_operations_diagram_id": _NO_DIAGRAM,
    },
)
