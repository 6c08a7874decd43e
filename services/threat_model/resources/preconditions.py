"""Optimistic locking: `If-Match` against the version of a row (RFC 9110 section 13.1.1)."""

import re

from services.shared.entity_tags import CODING
from services.shared.errors import ApiError, conflict

ANY_VERSION = -1
"""What `If-Match: *` expects: the object exists."""

_IF_MATCH = re.compile(r'\s*(?:(?P<any>\*)|(?P<bare>[0-9]{1,18})|(?:W/)?"(?P<quoted>[0-9]{1,18})' + CODING + r'")\s*')


def entity_tag(version: int) -> tuple[str, str]:
    """The ETag header of a version."""
    return ("etag", f'"{version}"')


def expected_version(if_match: str | None, *, required: bool) -> int | None:
    """The version that the header asks for; ANY_VERSION for `*`; None without a header.

    Accepts `5`, `"5"`, `W/"5"`, what a compressing proxy makes of them, and `*`. Raises ApiError 400
    `invalid_if_match` for anything else and 428 `if_match_required` when there is none though one is
    required (RFC 6585 section 3).
    """
    if if_match is None:
        if required:
            raise ApiError(428, "if_match_required", "If-Match is required: send the ETag of the object you change.")
        return None
    match = _IF_MATCH.fullmatch(if_match)
    if match is None:
        raise ApiError(400, "invalid_if_match", 'If-Match must be a version such as 5, "5" or W/"5", or *.')
    if match["any"]:
        return ANY_VERSION
    return int(match["bare"] or match["quoted"])


def check(expected: int | None, version: int) -> None:
    """Raises ApiError 409 `version_mismatch` when another version is expected."""
    if expected not in (None, ANY_VERSION, version):
        raise conflict(f"The object has changed: its version is {version}, not {expected}.", code="version_mismatch")
