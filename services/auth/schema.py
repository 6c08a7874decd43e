"""The metadata that holds every table of the auth service: schema `auth` on PostgreSQL, none on SQLite.

Tables stand beside their owners, in `tables.py` of each folder. Ids are UUIDs as text, timestamps aware UTC.
"""

from services.shared.database import service_metadata

SCHEMA = "auth"

metadata = service_metadata(SCHEMA)
