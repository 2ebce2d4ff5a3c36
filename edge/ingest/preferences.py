"""What a request would like best (RFC 7240), as far as it matters here. No input or output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

RESPOND_ASYNC, WAIT = "respond-async", "wait"

# One preference up to the next comma, and within it up to its parameters; what is quoted hides both.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
_WORD = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*(?:\"([^\"]*)\"|([^\s;\"]*))\s*)?(?:;|$)")

_MOST_DIGITS = 9  # decades, and quick to convert


class Preferences(NamedTuple):
    """What was preferred; what is malformed is left out, as the RFC has it."""

    respond_async: bool = False
    wait_s: int | None = None

    def patience_s(self, most_s: float) -> float:
        """How long to wait for a result before saying where it will be."""
        if self.wait_s is not None:
            return min(self.wait_s, most_s)
        return 0 if self.respond_async else most_s

    def applied(self, most_s: float, *, is_async: bool) -> str:
        """What ``Preference-Applied`` says; empty for nothing. `is_async`: the answer says where the result will be."""
        honoured = [RESPOND_ASYNC] if self.respond_async and is_async else []
        if self.wait_s is not None and self.wait_s <= most_s:
            honoured.append(f"{WAIT}={self.wait_s}")
        return ", ".join(honoured)


def preferred(headers: Iterable[str]) -> Preferences:
    """Read all ``Prefer`` headers of a request; of a preference that comes twice the first counts."""
    found: dict[str, str] = {}
    for name, value in _words(headers):
        found.setdefault(name, value)
    wait = found.get(WAIT, "")
    is_number = wait.isascii() and wait.isdigit() and len(wait) <= _MOST_DIGITS
    return Preferences(RESPOND_ASYNC in found, int(wait) if is_number else None)


def _words(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    for header in headers:
        for piece in _PREFERENCE.findall(header):
            if word := _WORD.match(piece):
                yield word[1].lower(), word[2] or word[3] or ""
