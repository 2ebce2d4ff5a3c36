"""Two transcripts of the same audio, word by word: how they are aligned, and how many errors the second makes. Pure.

Errors are counted as word error rates are: the least number of words that have to be substituted, deleted or inserted
to make the second transcript of the first, by Levenshtein's distance. Channels are compared apart, since in which
order two people's utterances are stated depends on where a run cuts them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from rapidfuzz.distance import Levenshtein

from eventlog.events import UtteranceFinal

EQUAL, SUBSTITUTED, DELETED, INSERTED = "equal", "replace", "delete", "insert"
"""Relations of two stretches of words, as the library names them."""

_OTHER_WAY = {EQUAL: EQUAL, SUBSTITUTED: SUBSTITUTED, DELETED: INSERTED, INSERTED: DELETED}


class Word(NamedTuple):
    """A word as it was said."""

    text: str
    key: str
    """Its form for comparisons."""
    start_s: float
    """In seconds of audio; that of its utterance if the word's own is unknown."""


class Stretch(NamedTuple):
    """Neighbouring words of both transcripts that agree, or don't; a substitution has as many of both."""

    kind: str
    first: Sequence[Word]
    second: Sequence[Word]
    channel: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much of two transcripts differs, in words."""

    words_a: int = 0
    words_b: int = 0
    substitutions: int = 0
    deletions: int = 0
    """Words of the first that the second doesn't have."""
    insertions: int = 0
    """Words that the second alone has."""
    wer: float | None = None
    """Errors per word of the first, to a hundredth of a percent; None if that has none, and the second has some."""

    @property
    def errors(self) -> int:
        """In all."""
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return counted(*(getattr(self, name) + getattr(other, name) for name in Counts.__struct_fields__[:5]))


def counted(words_a: int, words_b: int, substitutions: int, deletions: int, insertions: int) -> Counts:
    """The counts with their rate."""
    errors = substitutions + deletions + insertions
    wer = round(errors / words_a, 4) if words_a else None if errors else 0.0
    return Counts(
        words_a=words_a, words_b=words_b, substitutions=substitutions, deletions=deletions, insertions=insertions,
        wer=wer,
    )  # fmt: skip


class Ignored(NamedTuple):
    """What makes no difference."""

    case: bool = False
    punctuation: bool = False

    def key(self, word: str) -> str:
        """What a word is compared by; empty for one that is nothing but punctuation that is ignored."""
        composed = unicodedata.normalize("NFC", word)  # a letter and its accent may be one character or two
        if self.punctuation:
            composed = "".join(letter for letter in composed if not unicodedata.category(letter).startswith("P"))
        return composed.casefold() if self.case else composed


def words_of(finals: Iterable[UtteranceFinal], ignored: Ignored) -> dict[int, list[Word]]:
    """The words of each channel, in order."""
    found: dict[int, list[Word]] = {}
    for final in finals:
        texts = final.text.split()
        starts = [final.start_samples] * len(texts)
        if [word.text for word in final.words] == texts:
            starts = [word.start_samples for word in final.words]
        words = (
            Word(text, ignored.key(text), start / final.sample_rate_hz)
            for text, start in zip(texts, starts, strict=True)
        )
        found.setdefault(final.channel, []).extend(word for word in words if word.key)
    return found


def compared(first: dict[int, list[Word]], second: dict[int, list[Word]]) -> list[Stretch]:
    """Both from beginning to end, one channel after the other."""
    return [
        stretch
        for channel in sorted({*first, *second})
        for stretch in _aligned(first.get(channel, []), second.get(channel, []), channel)
    ]


def counts(stretches: Iterable[Stretch]) -> Counts:
    """The errors of a comparison."""
    numbers = {EQUAL: 0, SUBSTITUTED: 0, DELETED: 0, INSERTED: 0}
    words_a = words_b = 0
    for stretch in stretches:
        numbers[stretch.kind] += max(len(stretch.first), len(stretch.second))
        words_a += len(stretch.first)
        words_b += len(stretch.second)
    return counted(words_a, words_b, numbers[SUBSTITUTED], numbers[DELETED], numbers[INSERTED])


def _aligned(first: Sequence[Word], second: Sequence[Word], channel: int) -> Iterator[Stretch]:
    numbers: dict[str, int] = {}
    one = [numbers.setdefault(word.key, len(numbers)) for word in first]
    other = [numbers.setdefault(word.key, len(numbers)) for word in second]
    # Several alignments may be the shortest: always the same one, whichever transcript comes first.
    is_turned = (len(one), [word.key for word in first]) > (len(other), [word.key for word in second])
    for step in Levenshtein.opcodes(*((other, one) if is_turned else (one, other))):
        spans = (step.src_start, step.src_end), (step.dest_start, step.dest_end)
        (start, end), (other_start, other_end) = spans[::-1] if is_turned else spans
        kind = _OTHER_WAY[step.tag] if is_turned else step.tag
        yield Stretch(kind, first[start:end], second[other_start:other_end], channel)
