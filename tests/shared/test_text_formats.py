"""Timestamps, log lines and store URLs as text."""

import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from services.shared import log, redis_connection, rfc3339


def test_a_timestamp_survives_the_wire() -> None:
    instant = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert rfc3339.to_text(instant) == "2026-01-31T12:00:00.123456Z"
    assert rfc3339.from_text("2026-01-31T12:00:00.123456Z") == instant
    assert rfc3339.from_text("2026-01-31T13:00:00.123456+01:00") == instant


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "2026-13-31T12:00:00Z"])
def test_anything_but_rfc3339_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        rfc3339.from_text(text)


def test_a_log_line_is_json_with_the_request_id_and_no_line_breaks() -> None:
    log.request_id.set("request-9")
    record = logging.makeLogRecord({"msg": "first\nsecond", "levelname": "INFO", "method": "GET"})
    line = log.JsonFormatter("auth").format(record)
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed["msg"] == "first\nsecond"
    assert (parsed["request_id"], parsed["service"], parsed["method"]) == ("request-9", "auth", "GET")


def test_a_log_line_holds_the_exception() -> None:
    try:
        raise KeyError("x")
    except KeyError:
        record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", "exc_info": sys.exc_info()})
    assert "KeyError" in json.loads(log.JsonFormatter("auth").format(record))["exception"]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("redis://secret@host:6379/0", "redis://:secret@host:6379/0"),
        ("redis://:secret@host/0", "redis://:secret@host/0"),
        ("rediss://user:secret@host/0", "rediss://user:secret@host/0"),
        ("redis://host", "redis://host"),
        ("unix:///tmp/x.sock", "unix:///tmp/x.sock"),
    ],
)
def test_a_redis_url_with_one_credential_means_a_password(given: str, used: str) -> None:
    assert redis_connection.normalise(given) == used
