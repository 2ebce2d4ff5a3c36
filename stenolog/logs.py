"""Logs on standard error: JSON lines where machines read, plain ones on a terminal; never transcript text."""

import logging
import sys
import time
from typing import Any

import msgspec

# What every record has; whatever else is on one was given by its caller as `extra`.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def configure(role: str, level: str) -> None:
    """Send the records of this process to standard error, named by its role."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter(role) if sys.stderr.isatty() else JsonFormatter(role))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # One line per handshake would drown the rest at a thousand sessions.
    for chatty in ("uvicorn.access", "uvicorn.error", "websockets", "httpx2", "faster_whisper"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, role, event, its fields, and the stack of an error."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "event": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class PlainFormatter(logging.Formatter):
    """A line for a person: time, role, level where it matters, event, its fields."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, with the stack of an error below it."""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        fields = "".join(f" {name}={value}" for name, value in _extras(record).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {self._role:<8} {level}{record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
