"""Where in a clip the voice is, by loudness: finer than a detector of 30 ms frames, and without its hang-over."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processor.speech.features import RECOGNISER_RATE_HZ, Floats

FRAME_S = 0.01
"""Length of a frame."""

_FRAME_SAMPLES = int(FRAME_S * RECOGNISER_RATE_HZ)
_SMALLEST_POWER = 1e-10  # -100 dB, below the rounding of 16-bit samples
_QUIET_PERCENTILE, _LOUD_PERCENTILE = 10, 95
_ABOVE_QUIET_DB, _BELOW_LOUD_DB = 9.0, 32.0
_LEAST_RUN = 3  # frames: shorter sounds are clicks
_LEAST_PAUSE_S = 0.12  # shorter pauses are the closures of stop consonants


@dataclass(frozen=True, slots=True)
class Voicing:
    """The voiced stretches of a clip, in order.

    Attributes:
        starts_s: Where each begins.
        ends_s: Where each ends.
    """

    starts_s: npt.NDArray[np.float64]
    ends_s: npt.NDArray[np.float64]

    @property
    def start_s(self) -> float:
        """Where the first begins; 0 without any."""
        return float(self.starts_s[0]) if len(self.starts_s) else 0.0

    @property
    def end_s(self) -> float:
        """Where the last ends; 0 without any."""
        return float(self.ends_s[-1]) if len(self.ends_s) else 0.0

    def between(self, start_s: float, end_s: float) -> float:
        """Return how many seconds between two times are voiced."""
        overlap = np.minimum(self.ends_s, end_s) - np.maximum(self.starts_s, start_s)
        return float(np.maximum(overlap, 0.0).sum())

    def joined(self, pause_s: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return begins and ends of the stretches, those joined that are no such pause apart."""
        if not len(self.starts_s):
            return self.starts_s, self.ends_s
        apart = self.starts_s[1:] - self.ends_s[:-1] >= pause_s
        return self.starts_s[np.append(True, apart)], self.ends_s[np.append(apart, True)]


def voicing(samples: Floats) -> Voicing:
    """Return where 16 kHz samples are voiced: 9 dB louder than the quiet frames, and within 32 dB of the loud ones."""
    count = len(samples) // _FRAME_SAMPLES
    if not count:
        return Voicing(np.zeros(0), np.zeros(0))
    frames = samples[: count * _FRAME_SAMPLES].reshape(count, _FRAME_SAMPLES)
    loudness_db = 10 * np.log10(np.maximum(np.einsum("ij,ij->i", frames, frames) / _FRAME_SAMPLES, _SMALLEST_POWER))
    quiet_db, loud_db = np.percentile(loudness_db, [_QUIET_PERCENTILE, _LOUD_PERCENTILE])
    threshold_db = max(min(quiet_db + _ABOVE_QUIET_DB, loud_db - _ABOVE_QUIET_DB), loud_db - _BELOW_LOUD_DB)
    edges = np.diff(np.concatenate([[0], (loudness_db > threshold_db).astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    keep = ends - starts >= _LEAST_RUN
    starts, ends = starts[keep], ends[keep]
    found = Voicing(starts.astype(np.float64) * FRAME_S, ends.astype(np.float64) * FRAME_S)
    return Voicing(*found.joined(_LEAST_PAUSE_S))
