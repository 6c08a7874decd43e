"""The OpenAPI 3.1 document of every operation, from the same declarations that route and authorize."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor

from services.shared.api_info import API_VERSION
from services.shared.operations import HttpOperation
from tmi.options.v1.options_pb2 import Access, Format, Parameter

_TYPES = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
}
_FORMATS = {Format.FORMAT_UUID: "uuid", Format.FORMAT_DATE_TIME: "date-time"}
_NO_CONTENT = (HTTPStatus.NO_CONTENT, HTTPStatus.FOUND)
_ERROR = {
    "type": "object",
    "required": ["error", "error_description"],
    "properties": {
        "error": {"type": "string", "description": "Stable code."},
        "error_description": {"type": "string", "description": "For people; its wording may change."},
        "details": {"type": "object"},
    },
}


def document(operations: Iterable[HttpOperation]) -> bytes:
    """The document as JSON. Bodies are named by media type only; their members are not described."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.verb.lower()] = _operation(operation)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "TMI (Threat Modeling Improved)", "version": API_VERSION},
            "paths": paths,
            "components": {
                "schemas": {"Error": _ERROR},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                    "cookie": {"type": "apiKey", "in": "cookie", "name": "tmi_access_token"},
                },
            },
        }
    )


def _operation(operation: HttpOperation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "tags": [operation.method.containing_service.name],
        "security": [{"bearer": []}, {"cookie": []}] if operation.requirement.authenticated else [],
        "x-tmi-access": Access.Name(operation.declaration.access).removeprefix("ACCESS_").lower(),
        "parameters": [_parameter(operation, field, declared) for field, declared in operation.parameters],
        "responses": {
            str(operation.success_status): _success(operation),
            "default": {
                "description": "The request was refused or could not be served.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if operation.consumes:
        described["requestBody"] = {"content": {media_type: {} for media_type in operation.consumes}}
    return described


def _success(operation: HttpOperation) -> dict[str, Any]:
    status = HTTPStatus(operation.success_status)
    if status in _NO_CONTENT:
        return {"description": status.phrase}
    produced = ("application/json", *operation.declaration.produces)
    return {"description": status.phrase, "content": {media_type: {} for media_type in produced}}


def _parameter(operation: HttpOperation, field: FieldDescriptor, declared: Parameter) -> dict[str, Any]:
    name, place = field.name, "query"
    if field.name in operation.path_parameters:
        place = "path"
    elif declared.header:
        name, place = declared.header, "header"
    elif declared.cookie:
        name, place = declared.cookie, "cookie"
    schema = _schema(field, declared)
    if field.is_repeated:
        schema = {"type": "array", "items": schema}
        if declared.max_items:
            schema["maxItems"] = declared.max_items
    return {"name": name, "in": place, "required": place == "path" or declared.required, "schema": schema}


def _schema(field: FieldDescriptor, declared: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = dict(_TYPES[field.type])
    if declared.format:
        schema["format"] = _FORMATS[declared.format]
    if declared.max_length:
        schema["maxLength"] = declared.max_length
    if declared.pattern:
        schema["pattern"] = f"^(?:{declared.pattern})$"
    if declared.values:
        schema["enum"] = list(declared.values)
    if declared.HasField("minimum"):
        schema["minimum"] = declared.minimum
    if declared.HasField("maximum"):
        schema["maximum"] = declared.maximum
    if declared.default_value:
        schema["default"] = (
            orjson.loads(declared.default_value) if schema["type"] != "string" else declared.default_value
        )
    return schema
