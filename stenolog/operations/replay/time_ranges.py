"""Moments and ranges of time as people type them: pure, the caller gives the time of day."""

from __future__ import annotations

import re
from datetime import datetime

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_moment_ms(text: str, now_ms: int) -> int:
    """Unix ms of a moment: an age such as ``2h`` or ``1.5d``, or ISO 8601, local time unless it names a zone.

    Raises:
        ValueError: if it is neither.
    """
    if age := _AGE.fullmatch(text.strip()):
        return now_ms - round(float(age[1]) * _UNIT_S[age[2]] * 1000)
    try:
        return round(datetime.fromisoformat(text.strip()).timestamp() * 1000)
    except (ValueError, OverflowError):
        message = f"{text!r} is no moment: an age such as 2h or 3d, or ISO 8601 such as 2026-11-22T07:00"
        raise ValueError(message) from None


def parse_range(since: str | None, until: str | None, now_ms: int) -> tuple[int | None, int | None]:
    """Unix ms of both ends of a range of time; None where an end is not given.

    Raises:
        ValueError: if one is no moment, or the range is empty.
    """
    since_ms, until_ms = (None if text is None else parse_moment_ms(text, now_ms) for text in (since, until))
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise ValueError("--since is not before --until: that range of time is empty")
    return since_ms, until_ms
