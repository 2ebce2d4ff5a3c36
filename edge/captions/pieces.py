"""A final as pieces with times: its words, and parts of those that no line can hold or that need no spaces."""
# ruff: noqa: RUF001 - marks of many scripts look like each other

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from eventlog.readmodel.documents import ListedFinal

LINE_COLUMNS = 42
"""Of a line, as broadcasters limit it: readable at a glance. A letter of the width of two counts as two."""

_MS = 1000
_CONTROLS = {code: None for code in range(32) if chr(code) not in "\t\n\r\v\f"} | {127: None}
_CLOSING = frozenset(")]}»”’」』》〉】。，、！？：；…,.!?:;%")
"""Marks that begin no piece; the opening ones, in the same way, end none."""
_OPENING = frozenset("([{«“‘「『《〈【¿¡")
_JOINER = "\u200d"


class Piece(NamedTuple):
    """A part of a text that stands in one line.

    Attributes:
        text: Its letters and marks, without spaces.
        start_ms: When it begins to be said.
        end_ms: When it is said; no earlier.
        columns: Its width.
        is_spaced: Whether a space separates it from the piece before.
    """

    text: str
    start_ms: int
    end_ms: int
    columns: int
    is_spaced: bool


class _Clock(NamedTuple):
    """When each letter of a text, spaces not counted, is said: evenly within each word."""

    places: Sequence[int]
    """At which each word begins, and the end of the last one."""
    times_ms: Sequence[tuple[int, int]]
    """Start and end of each word."""

    def start_ms(self, place: int) -> int:
        """When the letter at `place` begins."""
        word = min(bisect_right(self.places, place), len(self.times_ms)) - 1
        return self._at(word, place)

    def end_ms(self, place: int) -> int:
        """When the letter before `place` ends."""
        return self._at(bisect_right(self.places, place - 1) - 1, place)

    def _at(self, word: int, place: int) -> int:
        (start_ms, end_ms), first = self.times_ms[word], self.places[word]
        return start_ms + (end_ms - start_ms) * (place - first) // max(1, self.places[word + 1] - first)


def printable(text: str) -> str:
    """The text in one line, without characters that no caption may hold."""
    return " ".join(text.translate(_CONTROLS).split())


def columns_of(text: str) -> int:
    """The width of a text: a letter as wide as two Latin ones counts as two."""
    return len(text) if text.isascii() else len(text) + sum(map(_is_wide, text))


def split_final(final: ListedFinal) -> list[Piece]:
    """The final's text in pieces; none if it has no letter to show."""
    tokens = printable(final.text).split()
    if not tokens:
        return []
    clock = _clock(final, "".join(tokens))
    words = set(clock.places)
    pieces: list[Piece] = []
    place = 0
    for token in tokens:
        is_spaced = bool(pieces)
        for part in _parts(token, place, words):
            end = place + len(part)
            start_ms = clock.start_ms(place)
            end_ms = max(start_ms, clock.end_ms(end))
            pieces.append(Piece(part, start_ms, end_ms, columns_of(part), is_spaced))
            place, is_spaced = end, False
    return pieces


def _clock(final: ListedFinal, letters: str) -> _Clock:
    """By the final's words if they are its text, else evenly over the final's time."""
    start_ms, end_ms = round(final.start * _MS), round(final.end * _MS)
    end_ms = max(start_ms, end_ms)
    texts = ["".join(printable(word.text).split()) for word in final.words]
    if "".join(texts) != letters:
        return _Clock((0, len(letters)), ((start_ms, end_ms),))
    times_ms: list[tuple[int, int]] = []
    places = [0]
    earliest_ms = start_ms
    for word, text in zip(final.words, texts, strict=True):
        if text:
            first_ms = min(max(earliest_ms, round(word.start * _MS)), end_ms)
            earliest_ms = min(max(first_ms, round(word.end * _MS)), end_ms)
            times_ms.append((first_ms, earliest_ms))
            places.append(places[-1] + len(text))
    return _Clock(places, times_ms)


def split_text(text: str, at_ms: int) -> list[Piece]:
    """A text that isn't said, such as a speaker's name, in pieces that take no time."""
    pieces: list[Piece] = []
    for token in printable(text).split():
        for number, part in enumerate(_parts(token, 0, frozenset())):
            pieces.append(Piece(part, at_ms, at_ms, columns_of(part), bool(pieces) and not number))
    return pieces


def _parts(token: str, place: int, words: set[int] | frozenset[int]) -> Iterator[str]:
    """The token in parts of at most a line; one of a script without spaces wherever a line may end."""
    if token.isascii() and len(token) <= LINE_COLUMNS:
        yield token
        return
    clusters = list(_clusters(token))
    if columns_of(token) <= LINE_COLUMNS and not any(_is_wide(cluster[0]) for cluster in clusters):
        yield token
        return
    is_long = columns_of(token) > LINE_COLUMNS
    part = ""
    for cluster in clusters:
        # Between wide letters any place will do; in a long word those between the recogniser's words are better.
        may_end = bool(part) and cluster[0] not in _CLOSING and part[-1] not in _OPENING and (
            place in words or _is_wide(part[-1]) or _is_wide(cluster[0])
        )  # fmt: skip
        is_full = columns_of(part + cluster) > LINE_COLUMNS
        if is_full or (may_end and (is_long or _is_wide(part[-1]) or _is_wide(cluster[0]))):
            yield part
            part = ""
        part += cluster
        place += len(cluster)
    if part:
        yield part


def _clusters(text: str) -> Iterator[str]:
    """Letters with their accents and joined signs, which no line's end separates, unless a line can't hold them."""
    cluster = ""
    for char in text:
        is_joined = unicodedata.category(char) in {"Mn", "Mc", "Me", "Cf"} or cluster.endswith(_JOINER)
        if cluster and not (is_joined and columns_of(cluster + char) <= LINE_COLUMNS):
            yield cluster
            cluster = ""
        cluster += char
    if cluster:
        yield cluster


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def starts_of_columns(pieces: Sequence[Piece]) -> list[int]:
    """For each piece, and for the end, the width of all before it, spaces included."""
    return list(accumulate((piece.columns + piece.is_spaced for piece in pieces), initial=0))
