"""From 16-bit PCM at a session's rate to a recogniser's input: float samples at 16 kHz."""

import numpy as np
import numpy.typing as npt
import soxr

RECOGNISER_RATE_HZ = 16_000
"""The rate that Whisper and most other speech models were trained on."""

_FULL_SCALE = 32_768.0  # 16-bit samples as fractions of full scale


def to_recogniser_rate(pcm: bytes, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return the samples as floats from -1 to 1 at 16 kHz, resampled as a whole if need be."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)
    if sample_rate_hz == RECOGNISER_RATE_HZ or not samples.size:
        return samples
    resampled: npt.NDArray[np.float32] = soxr.resample(samples, sample_rate_hz, RECOGNISER_RATE_HZ)
    return resampled
