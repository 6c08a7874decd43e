"""Timestamps on the wire: RFC 3339, UTC, microseconds."""

import re
from datetime import UTC, datetime, timedelta, timezone

_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
_LEAP_SECOND = 60


def now() -> datetime:
    """The present time, timezone-aware, in UTC."""
    return datetime.now(UTC)


def to_text(value: datetime) -> str:
    """`2026-01-31T12:00:00.000000Z` for an aware datetime."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_text(text: str) -> datetime:
    """An aware datetime in UTC; digits beyond microseconds are cut off.

    A leap second is read as the second that follows it, because a datetime has none (as POSIX time).
    Raises ValueError for anything but the `date-time` of RFC 3339 section 5.6, and for an instant
    that is not in the years 1 to 9999 of UTC.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    microsecond = int((match[7] or "")[:6].ljust(6, "0"))
    offset = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    zone = timezone(-offset if match[8] == "-" else offset)
    is_leap = second == _LEAP_SECOND
    try:
        value = datetime(year, month, day, hour, minute, second - is_leap, microsecond, zone).astimezone(UTC)
        value += timedelta(seconds=is_leap)
    except OverflowError as error:
        raise ValueError("not an instant of the years 1 to 9999") from error
    # Section 5.7: leap seconds are inserted at the end of a month, in UTC.
    if is_leap and (value.day, value.hour, value.minute, value.second) != (1, 0, 0, 0):
        raise ValueError("not a leap second")
    return value
