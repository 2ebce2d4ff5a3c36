"""Detects dual mono: browsers and phones make stereo files of a single microphone. Pure."""

from __future__ import annotations

from array import array

from processor.decoding.child_protocol import SAMPLE_BYTES, SAMPLE_RATE_HZ

LOUD = 100
"""Of 32,768: -50 dB, below which no speech is; samples before the first such one decide nothing."""

WINDOW_SAMPLES = SAMPLE_RATE_HZ
"""Compared from there on: a second, in which two speakers of a call never sound alike."""

MAX_SAMPLES = 60 * SAMPLE_RATE_HZ
"""Silence after which it decides without any louder sample: four megabytes are held until then."""

LIKENESS_DB = 40
"""How far the difference lies below the sum in dual mono; the noise that lossy codecs add to each lies lower."""

_FRAME_BYTES = 2 * SAMPLE_BYTES


class DualMonoDetector:
    """Takes the beginning of a recording in any pieces, and decides as soon as it can."""

    def __init__(self) -> None:
        """Begin without samples."""
        self._held = bytearray()
        self._searched_samples = 0
        self._loud_at: int | None = None

    def add(self, pcm: bytes) -> bool | None:
        """Whether it is dual mono, after the next interleaved samples; None: not known yet."""
        self._held += pcm
        known_samples = len(self._held) // _FRAME_BYTES
        if self._loud_at is None:
            self._loud_at = self._first_loud(known_samples)
        if self._loud_at is None:
            return self.is_dual_mono() if known_samples >= MAX_SAMPLES else None
        return self.is_dual_mono() if known_samples >= self._loud_at + WINDOW_SAMPLES else None

    def is_dual_mono(self) -> bool:
        """Whether the samples so far are dual mono; silence is."""
        if self._loud_at is None:
            return True
        window = self._held[self._loud_at * _FRAME_BYTES : (self._loud_at + WINDOW_SAMPLES) * _FRAME_BYTES]
        left, right = channels_of(bytes(window))
        if left == right:
            return True
        difference = sum((a - b) * (a - b) for a, b in zip(left, right, strict=True))
        together = sum((a + b) * (a + b) for a, b in zip(left, right, strict=True))
        return bool(difference * 10 ** (LIKENESS_DB // 10) < together)

    def _first_loud(self, known_samples: int) -> int | None:
        samples = array("h", bytes(self._held[self._searched_samples * _FRAME_BYTES :]))
        for number, sample in enumerate(samples):
            if abs(sample) >= LOUD:
                return self._searched_samples + number // 2
        self._searched_samples = known_samples
        return None


def channels_of(pcm: bytes) -> tuple[array[int], array[int]]:
    """The two channels of interleaved 16-bit samples."""
    samples = array("h", pcm)
    return samples[0::2], samples[1::2]
