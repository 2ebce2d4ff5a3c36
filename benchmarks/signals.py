"""Samples as floats from -1 to 1 at 16 kHz: levels, coloured noise, bands, and 16-bit PCM."""

import zlib

import numpy as np
import numpy.typing as npt

RATE_HZ = 16_000

Samples = npt.NDArray[np.float64]

_FULL_SCALE = 32_767


def to_pcm(samples: Samples) -> bytes:
    """Return the samples as 16-bit little-endian PCM, clipped at full scale."""
    return bytes((np.clip(samples, -1, 1) * _FULL_SCALE).astype("<i2").tobytes())


def from_pcm(pcm: bytes) -> Samples:
    """Return 16-bit little-endian PCM as floats."""
    return np.frombuffer(pcm, "<i2") / (_FULL_SCALE + 1)


def times_s(seconds: float) -> Samples:
    """Return the time of each sample of a clip."""
    return np.arange(round(seconds * RATE_HZ)) / RATE_HZ


def random_for(name: str) -> np.random.Generator:
    """Return a generator that draws the same numbers for the same name, in any process."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def rms(samples: Samples) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(samples**2))) if samples.size else 0.0


def at_rms(samples: Samples, level: float) -> Samples:
    """Return the samples scaled to a root mean square of `level`."""
    return samples * (level / max(rms(samples), 1e-12))


def at_peak(samples: Samples, level: float) -> Samples:
    """Return the samples scaled to a highest absolute value of `level`."""
    return samples * (level / max(float(np.max(np.abs(samples), initial=0.0)), 1e-12))


def colored_noise(random: np.random.Generator, seconds: float, exponent: float) -> Samples:
    """Return noise of RMS 1 whose power falls with frequency: exponent 0 is white, 1 pink, 2 brown."""
    count = round(seconds * RATE_HZ)
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequencies_hz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    spectrum *= np.maximum(frequencies_hz, 20.0) ** (-exponent / 2)  # below 20 Hz it would be a drift, not a sound
    spectrum[0] = 0
    return at_rms(np.fft.irfft(spectrum, count), 1.0)


def band(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    """Return what lies between two frequencies, with edges a tenth of the frequency wide."""
    spectrum = np.fft.rfft(samples)
    frequencies_hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    rising = np.clip((frequencies_hz - 0.95 * low_hz) / (0.1 * low_hz), 0, 1) if low_hz else 1.0
    falling = np.clip((1.05 * high_hz - frequencies_hz) / (0.1 * high_hz), 0, 1)
    return np.fft.irfft(spectrum * rising * falling, len(samples))


def convolved(samples: Samples, response: Samples) -> Samples:
    """Return the samples through a filter with this impulse response, as long as they were."""
    size = len(samples) + len(response)
    product = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[: len(samples)]
