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
    InsertRows,
    WriteReturning,
    WriteTogether,
    insert,
    is_postgresql,
    lock_migrations,
)

__all__ = [
    "InsertRows",
    "Json",
    "JsonBoolean",
    "JsonOptional",
    "JsonString",
    "JsonTimestamp",
    "JsonUuid",
    "JsonVerbatim",
    "SerialId",
    "TextList",
    "UtcDateTime",
    "UuidList",
    "UuidText",
    "WriteReturning",
    "WriteTogether",
    "insert",
    "is_one_of",
    "is_postgresql",
    "json_array",
    "json_array_contains_any",
    "json_object",
    "lock_migrations",
]
