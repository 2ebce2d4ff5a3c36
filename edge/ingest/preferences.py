"""The `Prefer` header (RFC 7240): the two preferences that ``/batch`` honours. No input or output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

RESPOND_ASYNC, WAIT = "respond-async", "wait"

# One preference up to the next comma, and within it up to its parameters; quotes hide both.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
_NAME = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*(?:\"([^\"]*)\"|([^\s;\"]*))\s*)?(?:;|$)")

_MAX_DIGITS = 9  # decades, and quick to convert


class Preferences(NamedTuple):
    """The preferences of a request; malformed ones are ignored, as the RFC requires."""

    respond_async: bool = False
    wait_s: int | None = None

    def timeout_s(self, max_s: float) -> float:
        """How long to wait for a result before answering with its address."""
        if self.wait_s is not None:
            return min(self.wait_s, max_s)
        return 0 if self.respond_async else max_s

    def applied(self, max_s: float, *, is_async: bool) -> str:
        """Make ``Preference-Applied``; empty for none. `is_async`: the answer has the address instead of the result."""
        honoured = [RESPOND_ASYNC] if self.respond_async and is_async else []
        if self.wait_s is not None and self.wait_s <= max_s:
            honoured.append(f"{WAIT}={self.wait_s}")
        return ", ".join(honoured)


def parse_preferences(headers: Iterable[str]) -> Preferences:
    """Parse all ``Prefer`` headers of a request; the first of a repeated preference counts."""
    found: dict[str, str] = {}
    for name, value in _pairs(headers):
        found.setdefault(name, value)
    wait = found.get(WAIT, "")
    is_number = wait.isascii() and wait.isdigit() and len(wait) <= _MAX_DIGITS
    return Preferences(RESPOND_ASYNC in found, int(wait) if is_number else None)


def _pairs(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    for header in headers:
        for piece in _PREFERENCE.findall(header):
            if pair := _NAME.match(piece):
                yield pair[1].lower(), pair[2] or pair[3] or ""
