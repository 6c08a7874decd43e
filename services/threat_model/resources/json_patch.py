"""JSON Patch (RFC 6902) on the document that a GET answers, limited to the members that may change.

The whole RFC: six operations, `-`, escapes (RFC 6901). Beyond it: a patch has 1 to 1000 operations,
pointers have at most 512 characters, and what `copy` duplicates is bounded, because a few
operations could otherwise double a document until memory ends.
"""

import re
from collections.abc import Collection, Iterable
from types import MappingProxyType
from typing import Any

import jsonpatch
import orjson
from jsonpointer import JsonPointer, JsonPointerException

from services.shared.errors import ApiError, invalid_input

PatchOperation = dict[str, Any]

MAX_OPERATIONS = 1000
MAX_POINTER_LENGTH = 512
MAX_COPIED_BYTES = 5 * 1024 * 1024

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_NEEDS_VALUE = frozenset({"add", "replace", "test"})
_NEEDS_FROM = frozenset({"move", "copy"})
_OPERATIONS = _NEEDS_VALUE | _NEEDS_FROM | {"remove"}


class _StrictTest(jsonpatch.TestOperation):
    """`test` that knows true from 1 (RFC 6902 section 4.6); Python's equality does not."""

    def apply(self, document: Any) -> Any:
        value = self.pointer.resolve(document)
        if not _same(value, self.operation["value"]):
            raise jsonpatch.JsonPatchTestFailed("the value differs")
        return document


class _BoundedCopy(jsonpatch.CopyOperation):
    """`copy` that charges what it duplicates to a budget of the patch."""

    def apply(self, document: Any) -> Any:
        copied = JsonPointer(self.operation["from"]).resolve(document)
        self.operation["budget"][0] -= len(orjson.dumps(copied))
        if self.operation["budget"][0] < 0:
            raise jsonpatch.JsonPatchConflict("the patch copies too much")
        return super().apply(document)


class _Patch(jsonpatch.JsonPatch):
    operations = MappingProxyType(dict(jsonpatch.JsonPatch.operations) | {"test": _StrictTest, "copy": _BoundedCopy})


def parse(data: bytes) -> list[PatchOperation]:
    """The operations of a patch document. Raises ApiError 400 `invalid_patch`."""
    try:
        operations = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise _invalid("The body is not valid JSON.") from None
    return checked(operations)


def checked(operations: Any) -> list[PatchOperation]:
    """The same for a JSON value."""
    if not isinstance(operations, list) or not 1 <= len(operations) <= MAX_OPERATIONS:
        raise _invalid(f"A patch is an array of 1 to {MAX_OPERATIONS} operations.")
    for index, operation in enumerate(operations):
        if problem := _problem(operation):
            raise _invalid(f"Operation {index}: {problem}")
    return operations


def _problem(operation: object) -> str | None:
    if not isinstance(operation, dict):
        return "it must be an object."
    name = operation.get("op")
    if not isinstance(name, str) or name not in _OPERATIONS:
        return "op must be add, remove, replace, move, copy or test."
    if not _is_pointer(operation.get("path")):
        return "path must be a JSON Pointer."
    if name in _NEEDS_FROM and not _is_pointer(operation.get("from")):
        return "from must be a JSON Pointer."
    if name in _NEEDS_VALUE and "value" not in operation:
        return "value is missing."
    return None


def _is_pointer(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_POINTER_LENGTH and _POINTER.fullmatch(value) is not None


def touched_members(operations: Iterable[PatchOperation]) -> set[str]:
    """Top-level members that the operations change; "" when one changes the whole document."""
    changed = {operation["path"] for operation in operations if operation["op"] != "test"}
    changed |= {operation["from"] for operation in operations if operation["op"] == "move"}
    return {_member(pointer) for pointer in changed}


def mentioned_members(operations: Iterable[PatchOperation]) -> set[str]:
    """Top-level members that the operations read or change; "" for the whole document."""
    pointers = {operation["path"] for operation in operations}
    pointers |= {operation["from"] for operation in operations if operation["op"] in _NEEDS_FROM}
    return {_member(pointer) for pointer in pointers}


def _member(pointer: str) -> str:
    if not pointer:
        return ""
    return pointer.split("/", 2)[1].replace("~1", "/").replace("~0", "~")


def check_members(touched: Collection[str], allowed: Collection[str]) -> None:
    """Raises ApiError 400 `invalid_input` for a member that does not exist or may not be changed."""
    for member in sorted(touched):
        if member not in allowed:
            named = f"/{member}" if member else "the whole object"
            raise invalid_input(f"{named[:128]} cannot be changed by a patch.")


def apply(document: dict[str, Any], operations: list[PatchOperation]) -> dict[str, Any]:
    """The patched document; the one given may be changed in the course of it.

    Raises ApiError 400 `patch_failed` when an operation does not fit the document.
    """
    budget = [MAX_COPIED_BYTES]
    prepared = [operation | {"budget": budget} if operation["op"] == "copy" else operation for operation in operations]
    try:
        patched = _Patch(prepared).apply(document, in_place=True)
    except jsonpatch.JsonPatchTestFailed:
        raise _failed("A test operation found another value.") from None
    except (
        jsonpatch.JsonPatchException,
        JsonPointerException,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        RecursionError,
    ):
        raise _failed("An operation of the patch does not fit the object.") from None
    if not isinstance(patched, dict):
        raise _failed("The patch does not leave an object.")
    return patched


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _invalid(message: str) -> ApiError:
    return ApiError(400, "invalid_patch", message)


def _failed(message: str) -> ApiError:
    return ApiError(400, "patch_failed", message)
