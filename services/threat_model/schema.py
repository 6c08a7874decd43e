"""The metadata that holds every table of the threat-model service: schema `threat_model` on PostgreSQL, none on SQLite.

Tables stand beside their owners, in `tables.py` of each folder. Ids are UUIDs as text, timestamps aware UTC.
`version` counts the successful writes of a row and is its ETag; `deleted_at` marks a soft delete.
"""

from services.shared.database import service_metadata

SCHEMA = "threat_model"

metadata = service_metadata(SCHEMA)
