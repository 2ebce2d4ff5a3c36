"""Word error rate: how many words must be changed, over how many were spoken."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

_SPELLINGS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}
"""Abbreviations that are written for words that were spoken in full."""

_BELOW_20 = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
DIGITS = frozenset(_BELOW_20[:10])
"""The words of single digits."""

_YEAR = re.compile(r"1[1-9]\d\d")
_LOST_WORDS = 3
"""So many words in a row, gone where an utterance ends, are a lost end and no slip of the recogniser."""


class Errors(NamedTuple):
    """What must be changed in a recognised text to make it the spoken one."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    spoken: int = 0

    @property
    def total(self) -> int:
        """All changes."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Changes over spoken words, as a fraction."""
        return self.total / self.spoken if self.spoken else 0.0

    def plus(self, other: "Errors") -> "Errors":
        """Return the sum of both."""
        return Errors(*(mine + its for mine, its in zip(self, other, strict=True)))


def normalised(text: str, *, by_digit: bool = False) -> list[str]:
    """Return the words in lower case, hyphens split, other punctuation gone, abbreviations and numbers spelt out.

    Args:
        text: A text, spoken or recognised.
        by_digit: A number was spoken digit by digit, so that 62 is "six two" and not "sixty two".
    """
    text = re.sub(r"(?<=\d),(?=\d)", " " if by_digit else "", text)
    words = re.sub(r"[^\w' ]", "", text.lower().replace("-", " ").replace("\n", " ")).split()
    return [spelt for word in words for spelt in _spelt(word, by_digit=by_digit)]


def word_errors(spoken: str, recognised: str) -> Errors:
    """Count the errors of one text; a spoken text of digits alone is compared digit by digit."""
    reference, words = _pair(spoken, recognised)
    kinds = [edit.tag for edit in Levenshtein.editops(reference, words)]
    return Errors(kinds.count("replace"), kinds.count("delete"), kinds.count("insert"), len(reference))


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the errors of all (spoken, recognised) texts over their spoken words, as a fraction."""
    errors = Errors()
    for spoken, recognised in pairs:
        errors = errors.plus(word_errors(spoken, recognised))
    return errors.rate


def lost_ends(spoken: str, utterances: Sequence[str]) -> int:
    """Return after how many utterances of a recording three spoken words or more are missing."""
    by_digit = is_digits(spoken)
    reference = normalised(spoken, by_digit=by_digit)
    recognised = [normalised(text, by_digit=by_digit) for text in utterances]
    ends, end = set(), 0
    for words in recognised:
        end += len(words)
        ends.add(end)
    opcodes = Levenshtein.opcodes(reference, [word for words in recognised for word in words])
    return sum(
        1
        for code in opcodes
        if code.tag == "delete" and code.src_end - code.src_start >= _LOST_WORDS and code.dest_start in ends
    )


def is_digits(text: str) -> bool:
    """Return whether a text consists of single digits."""
    return set(normalised(text)) <= DIGITS


def _pair(spoken: str, recognised: str) -> tuple[list[str], list[str]]:
    by_digit = is_digits(spoken)
    return normalised(spoken, by_digit=by_digit), normalised(recognised, by_digit=by_digit)


def _spelt(word: str, *, by_digit: bool) -> list[str]:
    if not (word.isascii() and word.isdigit()):
        return [_SPELLINGS.get(word, word)]
    if by_digit:
        return [_BELOW_20[int(digit)] for digit in word]
    if _YEAR.fullmatch(word):
        return _below_100(int(word[:2])) + (_below_100(int(word[2:])) if word[2:] != "00" else ["hundred"])
    return _below_100(int(word)) if len(word) <= 2 else [word]  # noqa: PLR2004 -- two digits


def _below_100(number: int) -> list[str]:
    if number < len(_BELOW_20):
        return [_BELOW_20[number]]
    tens, ones = divmod(number, 10)
    return [_TENS[tens - 2], *([_BELOW_20[ones]] if ones else [])]
