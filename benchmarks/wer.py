"""Word error rate: how many words must be changed, over how many were spoken."""

import re
from collections.abc import Iterable

_SPELLINGS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}
"""Abbreviations that are written for words that were spoken in full."""


def normalised(text: str) -> list[str]:
    """Return the words in lower case, hyphens split, other punctuation gone, abbreviations spelt out."""
    words = re.sub(r"[^\w' ]", "", text.lower().replace("-", " ")).split()
    return [_SPELLINGS.get(word, word) for word in words]


def word_errors(spoken: list[str], heard: list[str]) -> int:
    """Return the fewest insertions, deletions and substitutions that make one list the other."""
    row = list(range(len(heard) + 1))
    for line, expected in enumerate(spoken, 1):
        diagonal, row[0] = row[0], line
        for column, word in enumerate(heard, 1):
            cost = diagonal + (word != expected)
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, cost)
    return row[-1]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the errors of all (spoken, heard) texts over their spoken words, as a fraction."""
    errors = words = 0
    for spoken, heard in pairs:
        reference = normalised(spoken)
        errors += word_errors(reference, normalised(heard))
        words += len(reference)
    return errors / words if words else 0.0
