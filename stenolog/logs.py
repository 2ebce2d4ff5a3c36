"""Logs on standard error: JSON lines where machines read, plain ones on a terminal; never transcript text.

Fields mean the same everywhere: `session_id`, `run` ("<session> <run>"), `consumer`, `projection`, `code`, `reason`,
`trace_id`, `error` and `error_type`; docs/observability.md lists them.
"""

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any

import msgspec

from eventlog.telemetry import tracing

logger = logging.getLogger(__name__)

# What every record has; whatever else is on one was given by its caller as `extra`.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def configure(role: str, level: str) -> None:
    """Send the records of this process to standard error, named by its role."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter(role) if sys.stderr.isatty() else JsonFormatter(role))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda found: _log_uncaught(found.exc_type, found.exc_value, found.exc_traceback)
    # One line per handshake would drown the rest at a thousand sessions.
    for chatty in ("uvicorn.access", "uvicorn.error", "websockets", "httpx2", "faster_whisper"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _log_uncaught(kind: type[BaseException], error: BaseException | None, at: TracebackType | None) -> None:
    """Log an uncaught error, so that the end of a process is a record as well."""
    if error is None or issubclass(kind, SystemExit):
        return
    logger.critical("ended by an uncaught error", exc_info=(kind, error, at))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """The record's own fields; errors as their message and type, and what follows from the others."""
    found: dict[str, Any] = {}
    for name, value in record.__dict__.items():
        if name in _STANDARD:
            continue
        if isinstance(value, BaseException):
            found |= {name: str(value) or type(value).__name__, f"{name}_type": type(value).__name__}
        else:
            found[name] = value
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        found |= {"error": str(error), "error_type": type(error).__name__}
    if isinstance(run := found.get("run"), str) and " " in run:
        found.setdefault("session_id", run.partition(" ")[0])
    if trace_id := tracing.trace_id(tracing.current.get()):
        found.setdefault("trace_id", trace_id)
    return {name: value for name, value in found.items() if value != ""}


def _event(record: logging.LogRecord) -> str:
    """The message; one whose arguments don't fit it is shown as it was given, since a log call must never fail."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args!r}"


def _encoded(line: dict[str, Any]) -> str:
    """One line of JSON, whatever stands in it."""
    try:
        return msgspec.json.encode(line, enc_hook=repr).decode()
    except Exception:  # noqa: BLE001 - a lone surrogate, a key that is none, a repr that raises: logged without it
        return msgspec.json.encode({name: _plain(value) for name, value in line.items()}).decode()


def _plain(value: object) -> str:
    try:
        return str(value).encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - as above
        return f"<{type(value).__name__}>"


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, role, event, its fields, and the stack of an error."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "event": _event(record),
        }
        # A field that is called like one of ours must not hide it.
        line |= {f"extra_{name}" if name in line else name: value for name, value in _extras(record).items()}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return _encoded(line)


class PlainFormatter(logging.Formatter):
    """A line for a person: time, role, level where it matters, event, its fields."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, with the stack of an error below it."""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        fields = "".join(f" {name}={_plain(value)}" for name, value in _extras(record).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {self._role:<8} {level}{_event(record)}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
