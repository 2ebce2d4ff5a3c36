"""The text of an open utterance as it grows: which samples to recognise next, and which words will stay. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from processor.speech import SHORT_PAUSE_MS, SHORTEST_MS, OpenSpeech, Utterance

FIRST_VOICED_MS = 450
"""Speech that the first hypothesis of an utterance has: a word or two of read English."""

SURE = 0.85
"""Confidence from which a text that a pause follows is stable by itself. Measured on 337 s of speech with tiny.en: the
finals changed 7 of 516 stable words; at 0.7 14 of 627, and with agreement alone 6 of 437."""

PIECE_MS = 3_000
"""Speech from which a piece is kept at the next pause. Shorter ones lack context: kept from 300 ms on, finals
changed 19 of 627 stable words, from 3 or 6 s on 14; a partial costs 149, 154 and 178 ms."""

_LEAD_MS = 180
"""Of a pause that lies before a piece's first voiced frame, for soft onsets; less than the pause."""


class Piece(NamedTuple):
    """A stretch of an open utterance that is recognised by itself.

    Attributes:
        start_samples: Its first sample, from the session's start.
        end_samples: Behind its last.
        pauses: How many short pauses lie before its end, the one that ends it included.
        is_last: Whether it ends by a pause, so that its text will not change any more.
        voiced_ms: How much speech it has; None if unknown.
    """

    start_samples: int
    end_samples: int
    pauses: int
    is_last: bool
    voiced_ms: int | None


class Hypothesis(NamedTuple):
    """A text to be published, and how many of its first characters are stable."""

    text: str
    stable: int


@dataclass(slots=True, eq=False)
class ProvisionalText:
    """One open utterance's text.

    It is recognised from its last short pause on. When the next pause has come the piece before it is recognised once
    more, and its text is kept; so the cost of a hypothesis does not grow with the utterance. Words are stable, with all
    before them, once two successive hypotheses agree on them, or a pause follows and the recogniser is sure of them;
    they are published unchanged from then on.

    Attributes:
        start_samples: The utterance's first sample, from the session's start.
        pauses: How many short pauses lie behind the kept pieces.
        recognised_ms: Speech in the last hypothesis.
        kept_ms: Speech in the kept pieces.
    """

    start_samples: int
    pauses: int = 0
    recognised_ms: int = 0
    kept_ms: int = 0
    _kept: list[str] = field(default_factory=list)
    _last: list[str] = field(default_factory=list)
    _seen_pauses: int = 0  # that were considered for the end of a piece
    _stable: int = 0  # words, of the kept ones and those of the last hypothesis together

    @property
    def is_new(self) -> bool:
        """Whether nothing of it was recognised yet."""
        return not self.recognised_ms

    def has_pause(self, speech: OpenSpeech) -> bool:
        """Whether a pause has come that may end a piece."""
        return speech.short_pauses > self._seen_pauses and speech.voiced_ms - self.kept_ms >= PIECE_MS

    def has_news(self, speech: OpenSpeech) -> bool:
        """Whether it has speech that no hypothesis is made of."""
        least_ms = FIRST_VOICED_MS if self.is_new else self.recognised_ms + 1
        return speech.voiced_ms >= least_ms and speech.voiced_ms - self.kept_ms >= SHORTEST_MS

    def next_piece(self, utterance: Utterance, rate_hz: int) -> Piece:
        """The piece to recognise next: one that a pause has just ended, or all since the last piece that was kept."""
        lead = _LEAD_MS * rate_hz // 1000
        starts = [max(utterance.start_samples, at - lead) for at in utterance.short_pauses_samples]
        start = starts[self.pauses - 1] if 0 < self.pauses <= len(starts) else utterance.start_samples
        is_paused = utterance.pause_ms >= SHORT_PAUSE_MS
        voiced_ms = utterance.voiced_ms - self.kept_ms
        if voiced_ms >= PIECE_MS and self._seen_pauses < len(starts) + is_paused:
            if is_paused:
                return Piece(start, utterance.end_samples, len(starts) + 1, is_last=True, voiced_ms=voiced_ms)
            if starts[-1] - start >= PIECE_MS * rate_hz // 1000:  # voice has come back in the meantime
                return Piece(start, starts[-1], len(starts), is_last=True, voiced_ms=None)
        return Piece(start, utterance.end_samples, self.pauses, is_last=False, voiced_ms=voiced_ms)

    def note_recognised(self, piece: Piece, utterance: Utterance) -> None:
        """Note that a piece of `utterance` is being recognised."""
        # A piece that a pause ended earlier has no part of the speech behind that pause.
        self.recognised_ms = utterance.voiced_ms if piece.voiced_ms is not None else max(self.recognised_ms, 1)
        self._seen_pauses = _pauses(utterance)

    def add(self, piece: Piece, utterance: Utterance, text: str, confidence: float) -> Hypothesis | None:
        """Take in the text of a piece of `utterance`; None if it says nothing, or a later one came before it."""
        is_late = piece.pauses <= self.pauses if piece.is_last else piece.pauses != self.pauses
        if is_late or not (text or piece.is_last):
            return None
        kept = len(self._kept)
        words = _continue(self._last[: max(0, self._stable - kept)], text.split())
        if self._stable >= kept:  # else a kept word before these is not stable yet
            agreed = _agreed(words, self._last)
            if agreed == len(words) and not piece.is_last:
                agreed -= 1  # the last word may be cut off by the end of the audio in both
            self._stable = max(self._stable, kept + agreed)
        self._last = words
        if piece.is_last:
            self._keep(self._kept + words, piece.pauses, self._kept_ms(piece, utterance))
            if self._stable >= kept and confidence >= SURE:
                self._stable = len(self._kept)
        return self._hypothesis()

    def add_whole(self, utterance: Utterance, text: str, confidence: float) -> Hypothesis | None:
        """Take in the text of the whole utterance up to a pause; None if a later text came before it."""
        pauses = _pauses(utterance)
        if pauses < self.pauses:
            return None
        before = self._kept + self._last
        words = _continue(before[: self._stable], text.split())
        self._stable = len(words) if confidence >= SURE else max(self._stable, _agreed(words, before))
        self._keep(words, pauses, utterance.voiced_ms)
        self.recognised_ms = max(self.recognised_ms, utterance.voiced_ms)
        return self._hypothesis()

    def _kept_ms(self, piece: Piece, utterance: Utterance) -> int:
        if piece.voiced_ms is not None:
            return utterance.voiced_ms
        # Not known to the frame; at most the speech of the last hypothesis, so that the next piece is long enough.
        return max(self.kept_ms, min(self.recognised_ms, utterance.voiced_ms - SHORTEST_MS))

    def _keep(self, words: list[str], pauses: int, voiced_ms: int) -> None:
        self._kept, self._last = words, []
        self.pauses, self.kept_ms = pauses, voiced_ms
        self._seen_pauses = max(self._seen_pauses, pauses)

    def _hypothesis(self) -> Hypothesis:
        words = self._kept + self._last
        return Hypothesis(" ".join(words), len(" ".join(words[: self._stable])))


def _pauses(utterance: Utterance) -> int:
    """How many short pauses it has, one in progress included."""
    return len(utterance.short_pauses_samples) + (utterance.pause_ms >= SHORT_PAUSE_MS)


def _agreed(words: Sequence[str], others: Sequence[str]) -> int:
    """How many words both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, others, strict=False)))


def _continue(stable: list[str], words: list[str]) -> list[str]:
    """The stable words, and what follows them in a hypothesis that may read differently up to there.

    Cut is where the words before are fewest edits from the stable ones.
    """
    if words[: len(stable)] == stable:
        return words
    costs = list(range(len(words) + 1))  # of turning no stable word into the first so many
    for number, word in enumerate(stable, 1):
        previous, costs = costs, [number]
        for at, other in enumerate(words):
            costs.append(min(previous[at] + (_bare(word) != _bare(other)), previous[at + 1] + 1, costs[at] + 1))
    last = _bare(stable[-1])
    # Of equally good cuts the one behind the last stable word, or else behind as many words.
    cut = min(
        range(len(costs)),
        key=lambda at: (costs[at], not at or _bare(words[at - 1]) != last, abs(at - len(stable))),
    )  # fmt: skip
    return [*stable, *words[cut:]]


def _bare(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())
