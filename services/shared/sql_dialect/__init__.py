"""Where PostgreSQL and SQLite differ. Everything else in the services is the same SQL for both."""

from services.shared.sql_dialect.columns import (
    Json,
    SerialId,
    TextList,
    UtcDateTime,
    UuidList,
    UuidText,
    is_one_of,
    json_array_contains_any,
)
from services.shared.sql_dialect.disk import has_room, is_disk_full
from services.shared.sql_dialect.json_text import (
    JsonBoolean,
    JsonOptional,
    JsonString,
    JsonTimestamp,
    JsonUuid,
    JsonVerbatim,
    json_array,
    json_object,
)
from services.shared.sql_dialect.statements import (
    InsertReturning,
    InsertRows,
    LockedUpdate,
    WriteReturning,
    WriteTogether,
    advisory_lock,
    insert,
    is_postgresql,
    lock_migrations,
)
from services.shared.sql_dialect.violations import Rule, Violation, is_lock_timeout, violation_of

__all__ = [
    "InsertReturning",
    "InsertRows",
    "Json",
    "JsonBoolean",
    "JsonOptional",
    "JsonString",
    "JsonTimestamp",
    "JsonUuid",
    "JsonVerbatim",
    "LockedUpdate",
    "Rule",
    "SerialId",
    "TextList",
    "UtcDateTime",
    "UuidList",
    "UuidText",
    "Violation",
    "WriteReturning",
    "WriteTogether",
    "advisory_lock",
    "has_room",
    "insert",
    "is_disk_full",
    "is_lock_timeout",
    "is_one_of",
    "is_postgresql",
    "json_array",
    "json_array_contains_any",
    "json_object",
    "lock_migrations",
    "violation_of",
]
