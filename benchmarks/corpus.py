"""The speech that recognisers are measured on: recordings, divided in two halves, and the kinds of clips made of them.

The bundled sentences are always there. More recordings come from the folder that the environment variable
STENOLOG_SPEECH_MORE names: WAV files of 16 kHz mono, and `references.tsv` with file and spoken words.
"""

import csv
import os
import wave
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from benchmarks import clips, variants
from benchmarks.clips import Spoken
from benchmarks.noises import noises
from benchmarks.signals import RATE_HZ, Samples, from_pcm, to_pcm
from benchmarks.wer import is_digits

Split = Literal["tuning", "reporting", "all"]

MORE_SPEECH = "STENOLOG_SPEECH_MORE"
"""The environment variable that names a folder with more recordings."""

TEMPOS = (0.7, 0.85, 1.15, 1.3, 1.5, 1.8)

_REPORTING = {"ljB", "sonnet2", "jfk", "ls1088", "dig-lucas"}
"""Recordings on which nothing may be tuned; every other one is for tuning."""

_REPEATED_S = 17.0  # longer recordings are not repeated: five of them would take minutes
_BREATH_S = 0.25  # between a sentence and its repetition
_OVERLAP_S = -1.0
_DIGIT_GAP_S = 0.08
_LEADS_S = (0.13, 0.47, 0.81)
"""Silence before a recording, so that its utterances begin at other places within the detector's frames."""

_WORD_GAP_SAMPLES = RATE_HZ // 10  # a shorter dip of the level is inside a word, as before the k of "six"


class Recording(NamedTuple):
    """One reader's recording.

    Attributes:
        name: Its file's name without the ending.
        samples: 16 kHz floats.
        words: The spoken words; empty if unknown, so that whole-file decoding stands in for them.
    """

    name: str
    samples: Samples
    words: str

    @property
    def split(self) -> Split:
        """The half that it belongs to."""
        return "reporting" if self.name in _REPORTING else "tuning"


@cache
def recordings(split: Split = "all") -> tuple[Recording, ...]:
    """Return the recordings of one half, or of both.

    Raises:
        FileNotFoundError: The folder with more recordings is named, but isn't there.
    """
    found = [Recording(f"sense-{n}", from_pcm(clip.pcm), clip.words) for n, clip in enumerate(clips.sentences())]
    if folder := os.environ.get(MORE_SPEECH):
        with (Path(folder) / "references.tsv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row[0] != "file"]
        found += [Recording(name.removesuffix(".wav"), _wave(Path(folder) / name), words) for name, words in rows]
    return tuple(recording for recording in found if split in ("all", recording.split))


def digits(recording: Recording) -> list[Samples]:
    """Return the spoken digits of a recording, each cut by its level."""
    words: list[tuple[int, int]] = []
    for start, end in variants.sounding(recording.samples):
        if words and start - words[-1][1] < _WORD_GAP_SAMPLES:
            words[-1] = (words[-1][0], end)
        else:
            words.append((start, end))
    return [recording.samples[start:end] for start, end in words if end - start > _WORD_GAP_SAMPLES]


def kinds(split: Split) -> dict[str, Callable[[], list[Spoken]]]:
    """Return how to make the clips of each kind of speech, by its name; `noise` has no speech."""
    half = recordings(split)
    made = {name: _each(half, change) for name, change in _CHANGES.items()}
    made["babble_20"] = lambda: _under_babble(half, 20)
    made["babble_10"] = lambda: _under_babble(half, 10)
    made["staggered"] = lambda: [
        Spoken(bytes(2 * round(_LEADS_S[number % len(_LEADS_S)] * RATE_HZ)) + to_pcm(one.samples), one.words)
        for number, one in enumerate(half)
    ]
    made["repeated_3"] = lambda: _repeated(half, 3)
    made["repeated_5"] = lambda: _repeated(half, 5)
    made["overlap"] = lambda: _overlapping(half)
    made["dense_digits"] = lambda: [_dense(one) for one in half if is_digits(one.words)]
    if split != "reporting":
        made["short"] = clips.short
    made["noise"] = lambda: [Spoken(to_pcm(noise.samples), "") for noise in noises()]
    return made


def tempo_kind(tempo: float) -> str:
    """Return the name of the kind with this tempo."""
    return f"tempo_{tempo:g}"


def _tempo(tempo: float) -> Callable[[Samples], Samples]:
    return lambda samples: variants.at_tempo(samples, tempo)


_CHANGES: dict[str, Callable[[Samples], Samples]] = {
    "plain": lambda samples: samples,
    **{tempo_kind(tempo): _tempo(tempo) for tempo in TEMPOS},
    "no_pauses": variants.without_pauses,
    "room": variants.in_room,
    "telephone": variants.by_telephone,
    "quiet": lambda samples: variants.quieter(samples, -30),
    "white_20": lambda samples: variants.under_noise(samples, 20),
    "white_10": lambda samples: variants.under_noise(samples, 10),
    "white_5": lambda samples: variants.under_noise(samples, 5),
    "pink_10": lambda samples: variants.under_noise(samples, 10, 1.0),
}


def _each(half: Sequence[Recording], change: Callable[[Samples], Samples]) -> Callable[[], list[Spoken]]:
    return lambda: [Spoken(to_pcm(change(one.samples)), one.words) for one in half]


def _under_babble(half: Sequence[Recording], signal_to_noise_db: float) -> list[Spoken]:
    """Return each recording under all others of its half at once."""
    made = []
    for one in half:
        others = variants.babble([other.samples for other in half if other.name != one.name])
        made.append(Spoken(to_pcm(variants.under(one.samples, others, signal_to_noise_db)), one.words))
    return made


def _repeated(half: Sequence[Recording], times: int) -> list[Spoken]:
    return [
        Spoken(to_pcm(variants.joined([one.samples] * times, _BREATH_S)), " ".join([one.words] * times))
        for one in half
        if len(one.samples) <= _REPEATED_S * RATE_HZ and not is_digits(one.words)
    ]


def _overlapping(half: Sequence[Recording]) -> list[Spoken]:
    """Return pairs of recordings of which the second begins a second before the first ends."""
    spoken = [one for one in half if not is_digits(one.words)]
    return [
        Spoken(to_pcm(variants.joined([first.samples, second.samples], _OVERLAP_S)), f"{first.words} {second.words}")
        for first, second in zip(spoken[::2], spoken[1::2], strict=False)
    ]


def _dense(recording: Recording) -> Spoken:
    return Spoken(to_pcm(variants.joined(digits(recording), _DIGIT_GAP_S)), recording.words)


def _wave(path: Path) -> Samples:
    with wave.open(str(path)) as reader:
        if (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) != (RATE_HZ, 1, 2):
            raise ValueError(f"{path.name} is not 16-bit mono at 16 kHz")
        return from_pcm(reader.readframes(reader.getnframes()))


def lengths_s(spoken: Sequence[Spoken]) -> float:
    """Return the seconds of all clips together."""
    return float(np.sum([clip.seconds for clip in spoken]))
