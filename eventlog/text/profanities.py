"""Masks profanities: the first letter stays, so that a reader knows the word and a page does not show it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

MASK = "***"
"""Of one length whatever the word's."""

DEFAULT_LANGUAGE = "en"

_WORD = re.compile(r"[^\W\d_]+")


def mask(token: str, language: str) -> str:
    """The token with each profanity of the language masked; of an unknown language ("") those of English."""
    words = _words(language[:2].lower() or DEFAULT_LANGUAGE)
    return _WORD.sub(lambda found: f"{found[0][0]}{MASK}" if found[0].casefold() in words else found[0], token)


@cache
def _words(language: str) -> frozenset[str]:
    lines = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    entries = (line.partition(":") for line in lines if not line.startswith("#"))
    return frozenset(word for code, _, words in entries if code == language for word in words.split())
