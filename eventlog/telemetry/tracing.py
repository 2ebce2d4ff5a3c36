"""W3C trace context: from a request or handshake into the events, and into the log lines about them."""

from __future__ import annotations

import re
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_LENGTH = 55
"""Of version 00; a later version's additions are dropped, as the recommendation says."""

current: ContextVar[str] = ContextVar("traceparent", default="")
"""Of the request that this task serves; empty where its sender traces nothing."""


def parse_traceparent(traceparent: str) -> str:
    """Return the header's value if it is well formed, else "": a broken trace is no reason to refuse a request."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (traceparent.startswith("00") and found[2]):
        return ""
    return traceparent[:_LENGTH]


def trace_id(traceparent: str) -> str:
    """Return the id that all spans of the trace share, the log field `trace_id`; empty without a trace."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""
