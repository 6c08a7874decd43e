"""Conditional reads. RFC 9110 section 13."""


def is_not_modified(if_none_match: bytes, etag: bytes) -> bool:
    """Whether `If-None-Match` names the entity tag, by weak comparison (section 8.8.3.2), or anything."""
    if if_none_match == etag:
        return True
    opaque = etag.removeprefix(b"W/")
    tags = [tag.strip() for tag in if_none_match.split(b",")]
    return tags == [b"*"] or any(tag.removeprefix(b"W/") == opaque for tag in tags)
