"""Strict JSON (RFC 8259) with the rules of I-JSON (RFC 7493) about duplicate names."""

import json
import threading
from typing import Any

import orjson

from services.shared.errors import ApiError, invalid_input

DEEPEST_NESTING = 100

_ENCODER_DEPTH = 254
"""Levels at which orjson refuses to encode, as its documentation states."""


def check(body: bytes) -> None:
    """Raises ApiError 400 unless the body is one JSON text without duplicate names, nested reasonably.

    A duplicate name loses the colon after the first one when the parsed value is written again, and
    text that `unicode_text.normalised_json` returned has no other way to gain or lose a colon. Counting
    them costs a tenth of a parser that looks at every name. The value is written inside enough
    arrays that the encoder's own depth limit becomes ours.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _syntax_error(body, error) from error
    if not isinstance(value, dict | list):
        return
    nest, innermost = _NEST.outermost, _NEST.innermost
    innermost.append(value)
    try:
        written = orjson.dumps(nest)
    except orjson.JSONEncodeError as error:
        raise _too_deep() from error
    finally:
        innermost.clear()
    if written.count(b":") != body.count(b":"):
        _check_names(body)


class _Nest(threading.local):
    """Arrays in each other, of each thread its own: the innermost one takes the value in hand."""

    def __init__(self) -> None:
        self.innermost: list[Any] = []
        self.outermost = self.innermost
        for _ in range(_ENCODER_DEPTH - DEEPEST_NESTING - 1):
            self.outermost = [self.outermost]


_NEST = _Nest()


def _syntax_error(body: bytes, error: orjson.JSONDecodeError) -> ApiError:
    if not body.strip():
        return invalid_input("The body is empty.")
    return invalid_input(f"The body is not JSON: {error}.")


def _too_deep() -> ApiError:
    return invalid_input(f"The body is nested deeper than {DEEPEST_NESTING} levels.")


def _check_names(body: bytes) -> None:
    json.loads(body, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise invalid_input(f"The body names {name!r} twice in one object.")
        seen.add(name)
