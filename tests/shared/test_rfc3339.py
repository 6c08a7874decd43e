"""The date-time of RFC 3339 section 5.6: all of it, and nothing else."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared import rfc3339

ZONES = st.builds(
    lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(min_value=-(24 * 60 - 1), max_value=24 * 60 - 1)
)
INSTANTS = st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29), timezones=st.just(UTC))


@given(INSTANTS)
def test_a_timestamp_survives_the_wire(instant: datetime) -> None:
    assert rfc3339.from_text(rfc3339.to_text(instant)) == instant


@given(INSTANTS, ZONES, st.sampled_from("Tt"), st.text("0123456789", max_size=12))
def test_every_offset_letter_and_precision_is_read(instant: datetime, zone: timezone, t: str, more: str) -> None:
    local = instant.astimezone(zone).replace(microsecond=0)
    text = local.isoformat().replace("T", t)
    if more:
        text = text[:-6] + "." + more + text[-6:]
    read = rfc3339.from_text(text)
    assert read.tzinfo is UTC
    assert read == local + timedelta(microseconds=int(more[:6].ljust(6, "0")))


@given(INSTANTS)
def test_a_small_z_is_utc_and_so_is_an_unknown_offset(instant: datetime) -> None:
    text = rfc3339.to_text(instant)
    for spelling in (text.lower(), text.replace("Z", "-00:00"), text.replace("Z", "+00:00")):
        assert rfc3339.from_text(spelling) == instant


@given(st.text("0123456789-:.TtZzW+ ", max_size=35))
def test_what_python_alone_understands_is_refused(text: str) -> None:
    """Whatever is accepted has the grammar's punctuation in the grammar's places."""
    try:
        rfc3339.from_text(text)
    except ValueError:
        return
    assert text[4] + text[7] + text[13] + text[16] == "--::"
    assert text[10] in "Tt"
    assert text[-1] in "Zz" or (text[-6] in "+-" and text[-3] == ":")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00Z"),
        ("2015-07-01T01:59:60.5+02:00", "2015-07-01T00:00:00.5Z"),
    ],
)
def test_a_leap_second_is_the_second_after_it(text: str, instant: str) -> None:
    assert rfc3339.from_text(text) == rfc3339.from_text(instant)


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z", " 2026-01-31T12:00:00Z"),
        *("2026-W05-6T12:00:00Z", "2026-031T12:00:00Z", "20260131T120000Z", "2026-01-31T12Z", "2026-01-31T12:00Z"),
        *("2026-01-31T12:00:00,5Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00.5", "2026-01-31T12:00:00Z\n"),
        *("2026-01-31T12:00:00+01", "2026-01-31T12:00:00+0100", "2026-01-31T12:00:00+01:00:00"),
        *("2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+01:60", "2026-01-31T12:00:00\u221201:00"),
        *("2026-13-31T12:00:00Z", "2026-02-29T12:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z"),
        *("2026-01-31T12:00:60Z", "2026-01-30T23:59:60Z", "2026-12-31T23:59:60+01:00", "2026-12-31T23:59:61Z"),
        *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z"),
        *("٢٠٢٦-01-31T12:00:00Z", "+2026-01-31T12:00:00Z", "2026-01-31T12:00:00Zulu", "2026-1-31T12:00:00Z"),
    ],
)
def test_anything_but_rfc3339_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        rfc3339.from_text(text)
