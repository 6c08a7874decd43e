"""Ids of new rows and messages."""

import secrets
import time
import uuid


def uuid4() -> str:
    """A random UUID (RFC 9562 section 5.4) as canonical text."""
    return str(uuid.uuid4())


def uuid7() -> str:
    """A UUID that sorts by its time of creation to the millisecond (RFC 9562 section 5.7)."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))
