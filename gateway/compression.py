"""Compressing answers where it pays. RFC 9110 section 12.5.3."""

import asyncio
import zlib

SMALLEST_BYTES = 1024
_LEVEL = 1
"""Half the size for a tenth of the time that the highest level takes."""
_GZIP_WINDOW = 31
_LARGE_BYTES = 256 * 1024


def is_worthwhile(content_type: str, body: bytes) -> bool:
    """Whether an answer gets smaller enough: text of some size."""
    return len(body) >= SMALLEST_BYTES and ("json" in content_type or content_type.startswith("text/"))


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether the header names gzip (or everything) with a weight that is not zero."""
    if not accept_encoding:
        return False
    if accept_encoding in _USUAL:
        return True
    weights: dict[str, bool] = {}
    for element in accept_encoding.decode("latin-1").lower().split(","):
        coding, _, parameter = element.partition(";")
        weight = parameter.replace(" ", "")
        weights[coding.strip()] = not (weight.startswith("q=0") and not weight.strip("q=0."))
    return weights.get("gzip", weights.get("*", False))


async def gzip(body: bytes) -> bytes:
    """The body in gzip format. A large one is compressed in a thread, so that nobody waits for it."""
    if len(body) < _LARGE_BYTES:
        return zlib.compress(body, _LEVEL, _GZIP_WINDOW)
    return await asyncio.to_thread(zlib.compress, body, _LEVEL, _GZIP_WINDOW)


_USUAL = frozenset((b"gzip, deflate", b"gzip, deflate, br", b"gzip, deflate, br, zstd", b"gzip"))
