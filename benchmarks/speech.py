"""What the benchmark's speakers say: the bundled sentences with pauses, in a loop, and what must come of it."""

import os
import wave
from pathlib import Path
from typing import NamedTuple

from processor.recognisers import Clip
from processor.recognisers.mock import MockRecogniser
from processor.speech import Boundary, Segmenter, SegmenterSettings
from stenolog.local import demo

RATE_HZ = demo.RATE_HZ
FRAME_MS = 100
FRAME_SAMPLES = RATE_HZ * FRAME_MS // 1000
FRAME_BYTES = 2 * FRAME_SAMPLES
PAUSE_SAMPLES = RATE_HZ  # a second, longer than the hang-over: each sentence is an utterance
BREATH_SAMPLES = RATE_HZ * 35 // 100  # shorter than the hang-over; long utterances are cut at about half of them
MORE_READERS = ("ljA.wav", "ljB.wav")  # 16 kHz, running text
PLACES = 32  # starting places in the loop; more would only cost more to check


class Expected(NamedTuple):
    """A final as an undisturbed session would get it."""

    start_samples: int
    end_samples: int
    decided_samples: int
    text: str


def loop() -> bytes:
    """The sentences, each followed by a pause, in whole frames."""
    pcm = bytearray()
    for path in demo.recordings():
        pcm += demo.samples(path) + bytes(2 * PAUSE_SAMPLES)
    return bytes(pcm) + bytes(-len(pcm) % FRAME_BYTES)


def continuous_loop() -> bytes:
    """A reader without long pauses: the sentences with a breath between them, in whole frames.

    More readers are added from the folder that STENOLOG_SPEECH_MORE names, if it does.
    """
    pcm = bytearray()
    for path in demo.recordings():
        pcm += demo.samples(path) + bytes(2 * BREATH_SAMPLES)
    if folder := os.environ.get("STENOLOG_SPEECH_MORE"):
        for name in MORE_READERS:
            with wave.open(str(Path(folder) / name)) as file:
                pcm += file.readframes(file.getnframes()) + bytes(2 * BREATH_SAMPLES)
    return bytes(pcm) + bytes(-len(pcm) % FRAME_BYTES)


def frames(pcm: bytes) -> list[bytes]:
    """The loop cut into frames."""
    return [pcm[start : start + FRAME_BYTES] for start in range(0, len(pcm), FRAME_BYTES)]


def first_frame(session: int, count: int) -> int:
    """Where in a loop of `count` frames a session begins: spread evenly, so that they don't all pause together."""
    return (session * 7 % PLACES) * count // PLACES


class Script:
    """What the mock recogniser makes of the loop from one place on, worked out without any server."""

    def __init__(self, cut: list[bytes], first: int, most_frames: int, settings: SegmenterSettings) -> None:
        """Segment `most_frames` frames beginning with frame `first`."""
        self._cut = cut
        self._first = first
        self._settings = settings
        segmenter = Segmenter(settings, RATE_HZ)
        self._boundaries = [
            (number + 1, boundary) for number in range(most_frames) for boundary in segmenter.feed(self._frame(number))
        ]

    def finals(self, total_frames: int) -> list[Expected]:
        """The finals of a session that stops after `total_frames`."""
        boundaries = [boundary for number, boundary in self._boundaries if number <= total_frames]
        last = boundaries[-1].position_samples if boundaries else 0
        rest = Segmenter(self._settings, RATE_HZ, last)
        number, skipped = divmod(last, FRAME_SAMPLES)
        tail = b"".join(self._frame(index) for index in range(number, total_frames))
        boundaries += [*rest.feed(tail[2 * skipped :]), *rest.close()]
        return [final for boundary in boundaries if (final := _final(boundary)) is not None]

    def _frame(self, number: int) -> bytes:
        return self._cut[(self._first + number) % len(self._cut)]


def _final(boundary: Boundary) -> Expected | None:
    utterance = boundary.utterance
    if utterance is None:
        return None
    [recognition] = MockRecogniser().recognise([Clip(pcm=utterance.pcm, sample_rate_hz=RATE_HZ)])
    return Expected(utterance.start_samples, utterance.end_samples, utterance.decided_samples, recognition.text)
