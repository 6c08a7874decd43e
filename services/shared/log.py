"""Structured logs: one JSON object a line on stderr, with the request id of the request in hand."""

import logging
import sys
import traceback
from contextvars import ContextVar

import orjson

from services.shared import rfc3339

request_id: ContextVar[str] = ContextVar("request_id", default="")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record with its `extra` fields. Never pass a secret as a field or in the text."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON; control characters are escaped by JSON itself."""
        line: dict[str, object] = {
            "time": rfc3339.to_text(rfc3339.now()),
            "level": record.levelname.lower(),
            "service": self._service,
            "msg": record.getMessage(),
        }
        if identifier := request_id.get():
            line["request_id"] = identifier
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(line, default=str).decode()


def configure(service: str, level: str) -> None:
    """Sends every log record of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "alembic", "uvicorn.access", "websockets.server"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
