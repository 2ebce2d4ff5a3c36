"""Word times against known positions: spoken digits, cut by their level and joined with pauses, in a room's noise."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from benchmarks import variants
from benchmarks.corpus import Recording, digits
from benchmarks.signals import RATE_HZ, Samples, to_pcm
from benchmarks.wer import is_digits, normalised
from processor.recognisers.base import Clip, RecognisedWord, Recogniser

SPACINGS_S = {"apart": 0.25, "close": 0.06}
"""Pauses between digits: as in careful dictation, and as in running speech, where the level hardly shows the words."""

_EDGE_S = 0.3  # as the segmenter keeps around an utterance
_DIGITS_PER_CLIP = 5
_NOISE_DB = 20  # below the digits: in silence the level alone would show where a word is


class TimedClip(NamedTuple):
    """A clip of spoken digits, each with its start and end in seconds."""

    clip: Clip
    words: list[str]
    times_s: list[tuple[float, float]]


class WordTimes(NamedTuple):
    """How far word times are from the known ones, in seconds.

    Attributes:
        spoken: Words with a known position.
        compared: Those that were recognised and had a time.
        start_median_s: Median distance of the starts.
        start_p90_s: 90 % are as near.
        end_median_s: Of the ends.
        end_p90_s: Of the ends.
    """

    spoken: int
    compared: int
    start_median_s: float
    start_p90_s: float
    end_median_s: float
    end_p90_s: float


def timed_clips(recordings: Sequence[Recording], pause_s: float) -> list[TimedClip]:
    """Return clips of up to five digits each, of every recording of digits whose cut gives as many as were spoken."""
    return [
        _timed(cut[start : start + _DIGITS_PER_CLIP], words[start : start + _DIGITS_PER_CLIP], pause_s)
        for recording in recordings
        if is_digits(recording.words)
        for cut, words in [(digits(recording), normalised(recording.words))]
        if len(cut) == len(words)
        for start in range(0, len(words), _DIGITS_PER_CLIP)
    ]


def measure(recogniser: Recogniser, clips: Sequence[TimedClip]) -> WordTimes | None:
    """Recognise the clips and compare; None if the recogniser gives no words or no clip is known."""
    starts: list[float] = []
    ends: list[float] = []
    for timed in clips:
        [found] = recogniser.recognise([timed.clip])
        for (start_s, end_s), word in _matched(timed, found.words):
            starts.append(abs(word.start_s - start_s))
            ends.append(abs(word.end_s - end_s))
    if not starts:
        return None
    quantiles = [float(np.quantile(off, part)) for off in (starts, ends) for part in (0.5, 0.9)]
    return WordTimes(sum(len(timed.words) for timed in clips), len(starts), *quantiles)


def _matched(timed: TimedClip, words: Sequence[RecognisedWord]) -> list[tuple[tuple[float, float], RecognisedWord]]:
    """Pair known positions with the recognised words that are the same; a number of several digits has no one place."""
    spelt = [normalised(word.text, by_digit=True) for word in words]
    texts = [parts[0] if len(parts) == 1 else "" for parts in spelt]
    return [
        (timed.times_s[block.src_start + step], words[block.dest_start + step])
        for block in Levenshtein.opcodes(timed.words, texts)
        if block.tag == "equal"
        for step in range(block.src_end - block.src_start)
    ]


def _timed(cut: Sequence[Samples], words: list[str], pause_s: float) -> TimedClip:
    edge: Samples = np.zeros(round(_EDGE_S * RATE_HZ))
    pause: Samples = np.zeros(round(pause_s * RATE_HZ))
    parts, times_s, position = [edge], [], len(edge)
    for digit in cut:
        times_s.append((position / RATE_HZ, (position + len(digit)) / RATE_HZ))
        parts += [digit, pause]
        position += len(digit) + len(pause)
    samples = variants.under_noise(np.concatenate([*parts[:-1], edge]), _NOISE_DB, 1.0)
    voiced_ms = round(sum(end - start for start, end in times_s) * 1000)
    return TimedClip(Clip(pcm=to_pcm(samples), sample_rate_hz=RATE_HZ, voiced_ms=voiced_ms), words, times_s)
