"""Conditional reads. RFC 9110 section 13."""

import re

from services.shared.entity_tags import CODING

_TAG = re.compile(f'(?:W/)?("[^"]*?){CODING}"'.encode())


def is_not_modified(if_none_match: bytes, etag: bytes) -> bool:
    """Whether `If-None-Match` names the entity tag, or anything.

    By weak comparison (section 8.8.3.2), and regardless of what a compressing proxy made of the tag.
    """
    if if_none_match == etag:
        return True
    opaque = _opaque(etag)
    tags = [tag.strip() for tag in if_none_match.split(b",")]
    return tags == [b"*"] or any(_opaque(tag) == opaque for tag in tags)


def _opaque(tag: bytes) -> bytes:
    match = _TAG.fullmatch(tag)
    return match[1] if match else tag
