"""Word error rate: how many words must be changed, over how many were spoken."""

import re
from collections.abc import Iterable

from rapidfuzz.distance import Levenshtein

_SPELLINGS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}
"""Abbreviations that are written for words that were spoken in full."""


def normalised(text: str) -> list[str]:
    """Return the words in lower case, hyphens split, other punctuation gone, abbreviations spelt out."""
    words = re.sub(r"[^\w' ]", "", text.lower().replace("-", " ")).split()
    return [_SPELLINGS.get(word, word) for word in words]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the errors of all (spoken, recognised) texts over their spoken words, as a fraction."""
    errors = words = 0
    for spoken, recognised in pairs:
        reference = normalised(spoken)
        errors += Levenshtein.distance(reference, normalised(recognised))
        words += len(reference)
    return errors / words if words else 0.0
