"""Where an authorization response may be sent: the allow-list of client callbacks, and the redirect.

RFC 6749 section 3.1.2: a redirection endpoint is an absolute URI without a fragment, and its query
is kept when parameters are added.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode, urlsplit

MAX_LENGTH = 1000


def is_allowed(callback: str, allowlist: Iterable[str]) -> bool:
    """Whether an entry equals the callback, or ends in `*` and is a prefix of it. No entry, no callback."""
    if not _is_well_formed(callback):
        return False
    return any(_matches(callback, entry) for entry in allowlist)


def _matches(callback: str, entry: str) -> bool:
    if not entry.endswith("*"):
        return callback == entry
    # Browsers resolve dot segments, so a prefix could be left again through them.
    segments = urlsplit(callback).path.lower().replace("%2e", ".").split("/")
    return callback.startswith(entry[:-1]) and ".." not in segments


def _is_well_formed(callback: str) -> bool:
    if len(callback) > MAX_LENGTH or not all("!" <= character <= "~" for character in callback):
        return False
    if "\\" in callback or "#" in callback:
        return False
    try:
        parts = urlsplit(callback)
        parts.port  # noqa: B018 - raises ValueError for a port that is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def with_parameters(callback: str, parameters: Mapping[str, str]) -> str:
    """The callback with the parameters added to its query."""
    query = urlencode(parameters, quote_via=quote, safe="")
    if "?" not in callback:
        return f"{callback}?{query}"
    separator = "" if callback.endswith(("?", "&")) else "&"
    return f"{callback}{separator}{query}"
