"""Log lines and store URLs as text."""

import json
import logging
import sys

import pytest

from services.shared import log, redis_connection


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
