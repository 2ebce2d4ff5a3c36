"""Words with their times: the alignment's edges, moved to where the voice begins and ends."""

from collections.abc import Sequence

from processor.recognisers.base import RecognisedWord
from processor.recognisers.whisper.decoding import Alignment
from processor.recognisers.whisper.vocabulary import Word
from processor.speech.voicing import Voicing

_PAUSE_S = 0.2
"""No word has a pause as long as this within it; the closure of a stop consonant takes up to 0.12 s."""

_LATE_S = 0.3
"""How far the alignment may be behind the voice. Measured on digits: starts late by 0.09 s, one in ten by 0.21."""


def with_times(
    words: Sequence[Word], alignment: Alignment, voice: Voicing, clip_s: float
) -> tuple[RecognisedWord, ...]:
    """Return words with their times in the clip and their confidence, the mean probability of their tokens."""
    spans = [_voiced_span(alignment, word, voice) for word in words]
    found: list[RecognisedWord] = []
    before_s = 0.0
    for index, (word, span) in enumerate(zip(words, spans, strict=True)):
        next_s = spans[index + 1][0] if index + 1 < len(spans) else clip_s
        start_s = min(clip_s, max(before_s, _onset(span[0], before_s, voice)))
        end_s = min(clip_s, max(start_s, _release(span[1], next_s, voice)))
        probabilities = alignment.probabilities[word.first : word.end]
        confidence = float(probabilities.mean()) if len(probabilities) else 0.0
        found.append(RecognisedWord(word.text, round(start_s, 3), round(end_s, 3), min(1.0, confidence)))
        before_s = end_s
    return tuple(found)


def _voiced_span(alignment: Alignment, word: Word, voice: Voicing) -> tuple[float, float]:
    """Return the longest voiced part between a word's edges that no pause interrupts; its edges if none is voiced."""
    start_s, end_s = float(alignment.edges_s[word.first]), float(alignment.edges_s[word.end])
    parts: list[tuple[float, float]] = []
    for first_s, last_s in voice.stretches(start_s, end_s):
        if parts and first_s - parts[-1][1] < _PAUSE_S:
            parts[-1] = (parts[-1][0], last_s)
        else:
            parts.append((first_s, last_s))
    return max(parts, key=lambda part: part[1] - part[0], default=(start_s, end_s))


def _onset(start_s: float, before_s: float, voice: Voicing) -> float:
    """Return where the voice at a word's start begins, unless the word before reaches into it."""
    begin_s = voice.start_of(start_s)
    return begin_s if before_s <= begin_s and start_s - begin_s <= _LATE_S else start_s


def _release(end_s: float, next_s: float, voice: Voicing) -> float:
    """Return where the voice at a word's end stops, unless the next word begins in it."""
    stop_s = voice.end_of(end_s)
    return stop_s if stop_s <= next_s and stop_s - end_s <= _LATE_S else end_s
