"""English numbers in words as digits: "twenty-three" is 23, "two thousand and five" 2005, "three point one" 3.1.

Each number stays one of its own ("five five" is "5 5"), so that each keeps the time at which it was said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
}  # fmt: skip
_TEENS = {
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {
    "first": "one", "second": "two", "third": "three", "fourth": "four", "fifth": "five", "sixth": "six",
    "seventh": "seven", "eighth": "eight", "ninth": "nine", "tenth": "ten", "eleventh": "eleven", "twelfth": "twelve",
    "thirteenth": "thirteen", "fourteenth": "fourteen", "fifteenth": "fifteen", "sixteenth": "sixteen",
    "seventeenth": "seventeen", "eighteenth": "eighteen", "nineteenth": "nineteen", "twentieth": "twenty",
    "thirtieth": "thirty", "fortieth": "forty", "fiftieth": "fifty", "sixtieth": "sixty", "seventieth": "seventy",
    "eightieth": "eighty", "ninetieth": "ninety", "hundredth": "hundred", "thousandth": "thousand",
    "millionth": "million",
}  # fmt: skip
_NUMBERS = frozenset({*_UNITS, *_TEENS, *_TENS, *_SCALES, "hundred"})
_CENTURIES = range(16, 21)
"""The first halves of years said in two: "nineteen eighty-four", "twenty twenty"."""
_LINKS = frozenset({"or", "to", "and", "by", "minus", "plus", "times"})
"""Words between two numbers that make a "one" beside them a number too."""
_PLAIN_BELOW = 10_000
"""From here on thousands are set apart; below it could be a year."""
_LARGEST = 10**15
"""Above every scale, each of which is smaller than the one before it: "two million five thousand"."""
_ROUND = 10**6
"""Multiples of it keep their word: "2 million"."""

_TOKEN = re.compile(r"(?P<lead>\W*)(?P<core>[^\W\d_]+(?:-[^\W\d_]+)*)(?P<trail>\W*)")


class _Word(NamedTuple):
    """One word of a token: "twenty" of "twenty-three"."""

    text: str
    token: int
    is_last: bool
    """Of its token."""
    is_closed: bool
    """Punctuation follows: no number continues behind it."""
    is_listed: bool
    """A comma follows, as between the members of a list."""
    is_begun: bool
    """Punctuation or another word of the token stands before it."""


class _Number(NamedTuple):
    """A number that was read: its digits, and the place of the word after it."""

    digits: str
    end: int


def to_digits(tokens: Sequence[str]) -> list[tuple[int, int, str]]:
    """The tokens with numbers as digits: (first, end, text) for each token of the result, made of these tokens."""
    words = _split(tokens)
    found: list[tuple[int, int, str]] = []
    place = 0
    while place < len(words):
        first = words[place].token
        number = _read(words, place)
        if number is not None and words[number.end - 1].is_last:
            end = words[number.end - 1].token + 1
            lead, trail = _marks(tokens[first])[0], _marks(tokens[end - 1])[1]
            found.append((first, end, f"{lead}{number.digits}{trail}"))
            place = number.end
        else:
            found.append((first, first + 1, tokens[first]))
            while place < len(words) and words[place].token == first:
                place += 1
    return found


def _marks(token: str) -> tuple[str, str]:
    match = _TOKEN.fullmatch(token)
    return (match["lead"], match["trail"]) if match else ("", "")


def _split(tokens: Sequence[str]) -> list[_Word]:
    words: list[_Word] = []
    for number, token in enumerate(tokens):
        match = _TOKEN.fullmatch(token)
        parts = match["core"].casefold().split("-") if match else [token]
        for place, part in enumerate(parts):
            is_last = place == len(parts) - 1
            is_closed = is_last and (match is None or bool(match["trail"]))
            is_begun = place > 0 or match is None or bool(match["lead"])
            is_listed = is_last and match is not None and match["trail"] == ","
            words.append(_Word(part, number, is_last, is_closed, is_listed, is_begun))
    return words


def _read(words: Sequence[_Word], place: int) -> _Number | None:
    """The number that begins at `place`, which is the first word of a token."""
    first = words[place].text
    if first in {"a", "an"}:
        following = _next(words, place)
        is_number = following is not None and (following.text == "hundred" or following.text in _SCALES)
    elif first == "one":
        is_number = _is_counted(words, place)
    else:
        is_number = first in _NUMBERS or first in _ORDINALS
    if not is_number:
        return None
    return _read_year(words, place) or _read_cardinal(words, place)


def _is_counted(words: Sequence[_Word], place: int) -> bool:
    """Whether a "one" is a number rather than a pronoun: beside another, linked with one, or in a list of them."""
    after, before = words[place + 1 : place + 3], words[max(0, place - 2) : place]
    if after and not words[place].is_closed and after[0].text in {*_NUMBERS, "point"}:
        return True
    if before and not before[-1].is_closed and before[-1].text in _NUMBERS:
        return True
    others = _NUMBERS - {"one"}
    if (words[place].is_listed and after and after[0].text in others) or (
        before and before[-1].is_listed and before[-1].text in others
    ):
        return True
    return any(
        len(pair) == 2 and pair[link].text in _LINKS and pair[1 - link].text in others  # noqa: PLR2004
        for pair, link in ((after, 0), (before, 1))
    )


def _next(words: Sequence[_Word], place: int) -> _Word | None:
    """The word after, if the number may continue with it."""
    if words[place].is_closed or place + 1 == len(words):
        return None
    following = words[place + 1]
    return None if following.is_begun and words[place].is_last else following


def _below_hundred(words: Sequence[_Word], place: int) -> tuple[int, int] | None:
    """A number from 10 to 99: (value, place of the word after)."""
    text = words[place].text
    if text in _TEENS:
        return _TEENS[text], place + 1
    if text not in _TENS:
        return None
    following = _next(words, place)
    if following is not None and _UNITS.get(following.text):
        return _TENS[text] + _UNITS[following.text], place + 2
    return _TENS[text], place + 1


def _read_year(words: Sequence[_Word], place: int) -> _Number | None:
    first = _below_hundred(words, place)
    if first is None or first[0] not in _CENTURIES or _next(words, first[1] - 1) is None:
        return None
    century, middle = first
    if words[middle].text == "oh" and (unit := _next(words, middle)) is not None and unit.text in _UNITS:
        return _Number(f"{century}0{_UNITS[unit.text]}", middle + 2)
    second = _below_hundred(words, middle)
    if second is None:
        return None
    following = _next(words, second[1] - 1)
    if following is not None and (following.text in _NUMBERS or following.text in _ORDINALS):
        return None  # counting: "nineteen twenty twenty-one"
    return _Number(f"{century}{second[0]}", second[1])


class _Sum:
    """A number up to the word read last: its thousands and millions, and the part below a thousand."""

    def __init__(self) -> None:
        self.total = self.group = 0
        self.last = ""
        """Kind of the last word: ``unit``, ``teen``, ``tens``, ``hundred``, ``scale`` or ``and``."""
        self._scale = _LARGEST

    @property
    def value(self) -> int:
        return self.total + self.group

    def take(self, text: str, *, may_join: bool) -> bool:
        """Add a word; False if the number ends before it. `may_join`: an "and" here is inside the number."""
        begins = self.last in {"", "hundred", "scale", "and"}
        if text in _UNITS and (begins or (self.last == "tens" and _UNITS[text])):
            self.group, self.last = self.group + _UNITS[text], "unit"
        elif text in _TEENS and begins:
            self.group, self.last = self.group + _TEENS[text], "teen"
        elif text in _TENS and begins:
            self.group, self.last = self.group + _TENS[text], "tens"
        elif text == "hundred" and (not self.last or (self.last in {"unit", "teen", "tens"} and 0 < self.group < 100)):  # noqa: PLR2004
            self.group, self.last = 100 * (self.group or 1), "hundred"
        elif text in _SCALES and _SCALES[text] < self._scale and self.last != "and" and (self.group or not self.last):
            self._scale = _SCALES[text]
            self.total, self.group, self.last = self.total + (self.group or 1) * self._scale, 0, "scale"
        elif text == "and" and self.last in {"hundred", "scale"} and may_join:
            self.last = "and"
        else:
            return False
        return True


def _read_cardinal(words: Sequence[_Word], place: int) -> _Number | None:
    start, number = place, _Sum()
    if words[place].text in {"a", "an"}:  # of "a hundred"
        place += 1
    word: _Word | None = words[place]
    while word is not None and (word.text != "second" or word.is_begun):  # else of time: "a thirty second delay"
        if not number.take(_ORDINALS.get(word.text, word.text), may_join=_continues(words, place)):
            break
        place += 1
        if word.text in _ORDINALS:
            return _ordinal(number.value, start, place)
        word = _next(words, place - 1)
    if not number.last:
        return None
    if number.last != "scale" and not number.total and (decimals := _decimals(words, place)):
        return _Number(f"{number.value}.{decimals}", place + 1 + len(decimals))
    return _Number(_formatted(number.value), place)


def _continues(words: Sequence[_Word], place: int) -> bool:
    """Whether an "and" at `place` is inside a number: "two hundred and five"."""
    following = _next(words, place)
    if following is None:
        return False
    text = _ORDINALS.get(following.text, following.text)
    return text in _UNITS or text in _TEENS or text in _TENS


def _decimals(words: Sequence[_Word], place: int) -> str:
    """The digits after a "point" at `place`; empty if none is there."""
    if place >= len(words) or words[place].text != "point" or _next(words, place - 1) is None:
        return ""
    digits = ""
    while (following := _next(words, place)) is not None and (following.text in _UNITS or following.text == "oh"):
        digits += str(_UNITS.get(following.text, 0))
        place += 1
    return digits


def _ordinal(value: int, start: int, end: int) -> _Number | None:
    """Alone, "first" to "ninth" and "hundredth" stay: they are more than numbers ("a second", "one third")."""
    if end - start == 1 and (value < 10 or value in {100, *_SCALES.values()}):  # noqa: PLR2004
        return None
    tens, unit = value // 10 % 10, value % 10
    suffix = "th" if tens == 1 else {1: "st", 2: "nd", 3: "rd"}.get(unit, "th")
    return _Number(f"{_formatted(value)}{suffix}", end)


def _formatted(value: int) -> str:
    for name, scale in reversed(_SCALES.items()):
        if scale >= _ROUND and value >= scale and value % scale == 0:
            return f"{value // scale} {name}"
    return str(value) if value < _PLAIN_BELOW else f"{value:,}"
