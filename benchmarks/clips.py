"""The clips that recognisers are measured on, all made from the bundled speech, the same at every run."""

import csv
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks import signals
from benchmarks.signals import to_pcm

RATE_HZ = signals.RATE_HZ

_SPEECH = Path(__file__).parents[1] / "speech"

_SHORT = (
    ("0870", 0, 11_040, "and mister"),
    ("0870", 0, 16_400, "and mister john"),
    ("0870", 0, 29_679, "and mister john dashwood had"),
    ("0870", 11_040, 29_679, "john dashwood had"),
    ("0870", 16_400, 35_839, "dashwood had then"),
    ("0870", 35_839, 44_000, "leisure"),
    ("0870", 44_000, 69_360, "to consider how much"),
    ("0870", 69_360, 88_879, "there might be prudently"),
    ("0870", 69_360, 92_320, "there might be prudently in his"),
    ("0870", 76_560, 92_320, "be prudently in his"),
    ("0870", 76_560, 103_039, "be prudently in his power to do"),
    ("0870", 92_320, 103_039, "power to do"),
    ("0870", 92_320, 113_600, "power to do for them"),
    ("0870", 103_039, 113_600, "for them"),
    ("0880", 0, 9_280, "he was"),
    ("0880", 0, 17_280, "he was not"),
    ("0880", 9_280, 17_280, "not"),
    ("0880", 17_280, 47_840, "an ill disposed young man"),
    ("0880", 33_200, 47_840, "young man"),
    ("0890", 0, 21_119, "unless to be rather"),
    ("0890", 9_759, 21_119, "to be rather"),
    ("0890", 9_759, 34_879, "to be rather cold hearted"),
    ("0890", 21_119, 34_879, "cold hearted"),
    ("0890", 21_119, 46_159, "cold hearted and rather"),
    ("0890", 46_159, 58_000, "selfish"),
    ("0890", 46_159, 62_240, "selfish is"),
    ("0920", 0, 15_120, "had he married"),
    ("0920", 23_680, 40_960, "amiable woman"),
    ("0920", 23_680, 51_519, "amiable woman he might have"),
    ("0920", 40_960, 51_519, "he might have"),
    ("0920", 40_960, 61_520, "he might have been made"),
    ("0920", 51_519, 77_120, "been made still more respectable"),
    ("0930", 0, 17_600, "he might even have"),
)
"""File, first and last sample, words: cut at the quietest 40 ms between two words, each under 2 s."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """16 kHz s16le mono PCM and the words in it."""

    pcm: bytes
    words: str

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.pcm) / 2 / RATE_HZ


@cache
def sentences() -> list[Spoken]:
    """Return the five bundled sentences, 3 to 7 s each."""
    with (_SPEECH / "references.tsv").open(newline="") as file:
        return [Spoken(_pcm(name), words) for name, words in csv.reader(file, delimiter="\t")]


def short() -> list[Spoken]:
    """Return stretches of one to six words, 0.5 to 2 s each."""
    return [Spoken(_pcm(f"sense-{file}.wav")[2 * start : 2 * end], words) for file, start, end, words in _SHORT]


def speechless() -> list[Spoken]:
    """Return clips without a word: silence, noise of three levels, mains hum, a tone, clicks."""
    seconds = (0.5, 1.0, 2.0, 5.0, 10.0)
    random = np.random.default_rng(0)
    time_s = np.arange(3 * RATE_HZ) / RATE_HZ
    clicks = np.zeros(3 * RATE_HZ)
    clicks[:: RATE_HZ // 4] = 0.8
    waves = [np.zeros(int(length * RATE_HZ)) for length in seconds]
    waves += [
        random.standard_normal(int(length * RATE_HZ)) * level for length in seconds for level in (0.003, 0.03, 0.2)
    ]
    waves += [0.1 * np.sin(2 * np.pi * 50 * time_s), 0.2 * np.sin(2 * np.pi * 440 * time_s), clicks]
    return [Spoken(to_pcm(samples), "") for samples in waves]


def conversation(pause_s: float) -> Spoken:
    """Return the sentences one after the other, each followed by a pause, as a live stream has them."""
    pause = bytes(2 * int(pause_s * RATE_HZ))
    return Spoken(b"".join(clip.pcm + pause for clip in sentences()), " ".join(clip.words for clip in sentences()))


@cache
def _pcm(name: str) -> bytes:
    with wave.open(str(_SPEECH / name)) as reader:
        pcm: bytes = reader.readframes(reader.getnframes())
    return pcm
