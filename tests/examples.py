"""Values with which any operation can be called: what every walk over the routes sends.

One entry for each operation with a body and for each name of a parameter that has to be there. Whoever adds
an operation adds its example here, and all matrices cover it.
"""

from typing import Any
from urllib.parse import quote

import orjson

from services.shared.operations import HttpOperation

_UNKNOWN_ID = "0f7b4c56-5a3e-4a51-9c5a-6a1f8a1d2b3c"

PATH_VALUES: dict[str, str] = {
    "threat_model_id": _UNKNOWN_ID,
    "threat_id": _UNKNOWN_ID,
    "diagram_id": _UNKNOWN_ID,
    "asset_id": _UNKNOWN_ID,
    "group_id": _UNKNOWN_ID,
    "idp": "tmi",
    "key": "owner",
}
"""By name of the path parameter: a value of the right form, with which nothing is found."""

QUERY_VALUES: dict[str, str] = {
    "session_id": _UNKNOWN_ID,
    "threat_ids": _UNKNOWN_ID,
}
"""By name of a query parameter without which an operation is 400: a value of the right form."""

_RENAME = [{"op": "replace", "path": "/name", "value": "Renamed"}]
_THREAT = {"name": "Named", "threat_type": ["Spoofing"]}
_ASSET = {"name": "Named", "type": "data"}
_ENTRIES = [{"key": "new", "value": "entry"}]
_DIAGRAM = {"name": "Named", "type": "DFD-1.0.0"}

BODIES: dict[str, Any] = {
    "token": {},
    "refresh": {},
    "revoke": {"token": "unknown"},
    "introspect": b"token=unknown",
    "logout": {},
    "createCurrentUserPreferences": {"tmi-ux": {"theme": "dark"}},
    "updateCurrentUserPreferences": {"tmi-ux": {"theme": "light"}},
    "createThreatModel": {"name": "Named"},
    "replaceThreatModel": {"name": "Named"},
    "patchThreatModel": _RENAME,
    "createThreat": _THREAT,
    "replaceThreat": _THREAT,
    "patchThreat": _RENAME,
    "createDiagram": _DIAGRAM,
    "replaceDiagram": {**_DIAGRAM, "cells": []},
    "patchDiagram": _RENAME,
    "createAsset": _ASSET,
    "replaceAsset": _ASSET,
    "patchAsset": _RENAME,
    "bulkCreateAssets": [_ASSET],
    "bulkReplaceAssets": [_ASSET | {"id": _UNKNOWN_ID}],
    "bulkCreateThreats": [_THREAT],
    "bulkReplaceThreats": [_THREAT | {"id": _UNKNOWN_ID}],
    "bulkPatchThreats": {"patches": [{"id": _UNKNOWN_ID, "operations": _RENAME}]},
    "createMetadata": _ENTRIES[0],
    "replaceMetadata": {"value": "changed"},
    "bulkCreateMetadata": _ENTRIES,
    "bulkUpsertMetadata": _ENTRIES,
    "bulkReplaceMetadata": _ENTRIES,
    "joinDiagramSession": {},
}
"""By operation id, or for an RPC with many bindings by its name in lowerCamelCase: a body that is right in
itself, as JSON data, or bytes as they are sent.

What is wrong with a body may be told before who may send it, so a wrong one would hide the answer of a matrix.
"""


def path(operation: HttpOperation, **values: str) -> str:
    """The operation's path with these values in place of its parameters, the examples for all others."""
    filled = operation.path
    for name in operation.path_parameters:
        value = values[name] if name in values else _found(PATH_VALUES, "PATH_VALUES", name, operation)
        filled = filled.replace(f"{{{name}}}", quote(value, safe=""))
    return filled


def query(operation: HttpOperation) -> dict[str, str]:
    """The query parameters without which the operation is 400."""
    return {
        field.name: _found(QUERY_VALUES, "QUERY_VALUES", field.name, operation)
        for field, declared in operation.parameters
        if declared.required and not (declared.header or declared.cookie)
    }


def body(operation: HttpOperation) -> Any:
    """The operation's body, None when it has none."""
    if not operation.consumes:
        return None
    return _found(BODIES, "BODIES", body_key(operation), operation)


def body_key(operation: HttpOperation) -> str:
    """Under which name the operation's body is registered."""
    rpc = operation.method.name[0].lower() + operation.method.name[1:]
    return operation.operation_id if operation.operation_id in BODIES else rpc


def content(operation: HttpOperation) -> tuple[bytes, dict[str, str]]:
    """The operation's body as bytes, and the header that goes with it."""
    example = body(operation)
    if example is None:
        return b"", {}
    data = example if isinstance(example, bytes) else orjson.dumps(example)
    return data, {"Content-Type": operation.consumes[0]}


def _found(examples: dict[str, Any], registry: str, name: str, operation: HttpOperation) -> Any:
    if name not in examples:
        raise KeyError(f"{operation.operation_id} needs an example: add {name!r} to {registry} in tests/examples.py.")
    return examples[name]
