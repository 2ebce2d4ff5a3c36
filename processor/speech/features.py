"""A recogniser's input: float samples at 16 kHz, and Whisper's log-mel spectrogram without a matrix product.

A mel filterbank is nearly empty: each frequency belongs to two filters at most. Multiplying it in full wakes the BLAS
threads, which then spin for longer than the whole recognition of a short clip takes.
"""

import numpy as np
import numpy.typing as npt
import soxr

RECOGNISER_RATE_HZ = 16_000
"""The rate that Whisper and most other speech models were trained on."""

_FULL_SCALE = 32_768.0  # 16-bit samples as fractions of full scale

_FFT_SAMPLES = 400  # 25 ms at 16 kHz: Whisper's window
_HOP_SAMPLES = 160  # 10 ms: Whisper's step
_FLOOR = 1e-10  # below any 16-bit sample's power, so that the logarithm exists
_DYNAMIC_RANGE = 8.0  # decades below the loudest that Whisper was trained to see

Floats = npt.NDArray[np.float32]


def to_recogniser_rate(pcm: bytes, sample_rate_hz: int) -> Floats:
    """Return the samples as floats from -1 to 1 at 16 kHz, resampled as a whole if need be."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)
    if sample_rate_hz == RECOGNISER_RATE_HZ or not samples.size:
        return samples
    resampled: Floats = soxr.resample(samples, sample_rate_hz, RECOGNISER_RATE_HZ)
    return resampled


class LogMel:
    """Turns samples into log-mel frames of 10 ms.

    Args:
        filters: The model's filterbank, one row a mel, one column a frequency; no row is empty.
    """

    def __init__(self, filters: Floats) -> None:
        mels, self._frequencies = np.nonzero(filters)
        self._weights = filters[mels, self._frequencies].astype(np.float32)[:, None]
        self._starts = np.searchsorted(mels, np.arange(len(filters)))
        self._window = np.hanning(_FFT_SAMPLES + 1)[:-1].astype(np.float32)

    def __call__(self, samples: Floats) -> Floats:
        """Return the features of 16 kHz samples, shape (mels, frames)."""
        half = _FFT_SAMPLES // 2
        padded = np.pad(np.pad(samples, (0, _HOP_SAMPLES)), half, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT_SAMPLES)[::_HOP_SAMPLES][:-1]
        spectrum = np.fft.rfft(windows * self._window, axis=-1).T
        power = spectrum.real**2 + spectrum.imag**2
        mel = np.add.reduceat(power[self._frequencies] * self._weights, self._starts, axis=0)
        decades = np.log10(np.maximum(mel, _FLOOR))
        scaled: Floats = (np.maximum(decades, decades.max() - _DYNAMIC_RANGE) + 4.0) / 4.0  # -1 to 1, as in training
        return scaled.astype(np.float32, copy=False)
