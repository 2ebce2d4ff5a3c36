"""Recognises clips that hold nothing but tones: ringing, alarms, dialling, sirens.

A voice detector takes them for speech, and a Whisper decoder writes "Beep" or "Oh" for them. A tone differs from a
voice in two ways: its power lies within one or two narrow bands, or its spectrum does not change over 100 ms. A voice
moves all the time, and its consonants have no narrow bands.

A clip is taken for tones only if nothing else is in it, for a refused clip is never decoded: speech beneath a tone, in
its pauses or behind it keeps the clip. So does mains hum, under which speech 40 dB weaker is still well recognised.
"""

import numpy as np
import numpy.typing as npt

from processor.speech.features import RECOGNISER_RATE_HZ, Floats

Flags = npt.NDArray[np.bool_]

_HOP_SAMPLES = 256  # 16 ms
_PURE_SAMPLES = 512  # 32 ms: short, so that a gliding siren hardly moves within a window
_STEADY_SAMPLES = 1_024  # 64 ms: long, so that the harmonics of a buzzer stand apart

_LEAST_FRAMES = 38
"""Frames of tones, 0.6 s: a single vowel, held as long as it may be, can look like a shorter tone."""

_BAND_BINS = 4  # a tone reaches four bins (125 Hz) to each side through the window
_LEAST_PURE = 0.99
"""Part of a frame's power within its two strongest bands: ringing and dialling have two tones. With the bounds
below no utterance of nine recordings and five sentences, plain and in five variants, is taken for tones."""

_LOWEST_HZ = 300  # of a pure frame's strongest band: a hummed "mm" has little but its pitch, 80 to 300 Hz
_SECOND_BAND = 0.01  # part of a frame's power from which its second band is a tone of its own
_HARMONIES, _HARMONY_WIDTH = (4 / 3, 1.5, 2.0, 3.0), 0.02
"""Quotients of neighbouring harmonics: two bands so far apart are a voice's. No telephone's tones are."""

_LAG_FRAMES, _LEAST_ALIKE = 6, 0.995
"""Cosine between the amplitude spectra of two frames 96 ms apart."""

_LOW_HZ = 200  # below, hum and rumble decide nothing
_LOUD = 0.01  # part of the loudest frame's power: 20 dB below it
_LEAST_EXPLAINED, _MOST_UNEXPLAINED_FRAMES = 0.7, 5
"""Of the loud frames; and how many of them in a row may be neither pure nor steady: a switch takes four."""

_LINE_CHANGE = 1.3  # how much a steady line's power may vary, by the window's place within its period

_MOST_UNEVEN, _INAUDIBLE, _MOST_UNEVEN_FRAMES = 6.0, 1e-6, 4
"""Beside the tones only even noise may remain: no stretch of more frames than these may be so much stronger than the
quiet frames (20 %), unless it lies 60 dB below the tones."""

_FLOOR = 1e-12  # power of digital silence, so that quotients exist


def is_tone(samples: Floats) -> bool:
    """Return whether a clip holds only steady, switched or gliding tones and silence or even noise between them.

    Costs 0.7 ms per second of audio.

    Args:
        samples: The clip at 16 kHz, from -1 to 1.
    """
    if len(samples) < _STEADY_SAMPLES + _LEAST_FRAMES * _HOP_SAMPLES:
        return False
    long = _powers(samples, _STEADY_SAMPLES)
    short = _powers(samples, _PURE_SAMPLES)[1 : len(long) + 1]  # of the same centres
    is_pure = _is_pure(short)
    low, short, long = short[:, : _bin(_LOW_HZ, _PURE_SAMPLES)], _from_low(short), _from_low(long)
    power = short.sum(axis=1) + np.float32(_FLOOR)
    if low.sum() > power.sum():
        return False
    loud = power > _LOUD * power.max()
    explained = is_pure | _is_steady(long)
    if (
        np.count_nonzero(explained & loud) < max(_LEAST_FRAMES, _LEAST_EXPLAINED * np.count_nonzero(loud))
        or _longest_run(loud & ~explained) > _MOST_UNEXPLAINED_FRAMES
    ):
        return False
    settled = loud & explained & ~_near(~loud, 2) & ~_near(loud & ~explained, 2)
    if not settled.any():
        return False
    beside = np.where(is_pure, _beside_bands(_changing(short, settled))[0], _changing(long, settled).sum(axis=1))
    limit = _INAUDIBLE * float(power.max())
    return _is_even(beside, settled, limit) and _is_even(beside, ~_near(loud, 1), limit)


def _powers(samples: Floats, size: int) -> Floats:
    """Return the power spectrum of each frame through a window of Blackman and Harris, shape (frames, bins)."""
    angle = 2 * np.pi * np.arange(size) / size
    window = 0.35875 - 0.48829 * np.cos(angle) + 0.14128 * np.cos(2 * angle) - 0.01168 * np.cos(3 * angle)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::_HOP_SAMPLES]
    spectrum = np.fft.rfft(frames * window.astype(np.float32))
    power: Floats = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) / np.float32(np.sum(window**2))
    return power


def _bin(frequency_hz: float, size: int) -> int:
    return int(frequency_hz * size / RECOGNISER_RATE_HZ)


def _from_low(powers: Floats) -> Floats:
    return powers[:, _bin(_LOW_HZ, 2 * (powers.shape[1] - 1)) :]


def _is_pure(powers: Floats) -> Flags:
    """Return, for each frame, whether it has one or two narrow bands alone, which are no voice's harmonics."""
    total = powers.sum(axis=1)
    beside, first, second = _beside_bands(powers)
    quotient = _peak_bin(powers, np.maximum(first, second)) / _peak_bin(powers, np.minimum(first, second))
    beside_first = total - np.take_along_axis(powers, _band(first, powers), axis=1).sum(axis=1)
    is_voice = np.any([np.abs(quotient / harmony - 1) < _HARMONY_WIDTH for harmony in _HARMONIES], axis=0)
    is_voice &= beside_first > _SECOND_BAND * total
    pure: Flags = (beside < (1 - _LEAST_PURE) * total) & (first > _bin(_LOWEST_HZ, _PURE_SAMPLES)) & ~is_voice
    return pure


def _beside_bands(powers: Floats) -> tuple[Floats, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return, for each frame, its power outside its two strongest bands, and the strongest bin of each."""
    rest = powers.copy()
    first = rest.argmax(axis=1)
    np.put_along_axis(rest, _band(first, powers), 0, axis=1)
    second = rest.argmax(axis=1)
    np.put_along_axis(rest, _band(second, powers), 0, axis=1)
    return rest.sum(axis=1), first, second


def _band(peaks: npt.NDArray[np.intp], powers: Floats) -> npt.NDArray[np.intp]:
    """Return the bins of a band around each peak, shape (frames, bins); those at an edge are further in."""
    inside = np.clip(peaks, _BAND_BINS, powers.shape[1] - 1 - _BAND_BINS)
    return inside[:, None] + np.arange(-_BAND_BINS, _BAND_BINS + 1)


def _peak_bin(powers: Floats, peaks: npt.NDArray[np.intp]) -> Floats:
    """Return where each peak lies between its bins, by a parabola through the logarithms around it."""
    inside = np.clip(peaks, 1, powers.shape[1] - 2)
    rows = np.arange(len(powers))
    left, middle, right = (np.log(powers[rows, inside + step] + np.float32(_FLOOR)) for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.minimum(bend, -_FLOOR), 0)
    peak: Floats = inside + np.clip(shift, -0.5, 0.5)
    return peak


def _changing(powers: Floats, settled: Flags) -> Floats:
    """Return the powers less those of steady lines: what each bin has at weak times (10 %), and a bit."""
    changing: Floats = np.maximum(powers - _LINE_CHANGE * np.quantile(powers[settled], 0.1, axis=0), 0)
    return changing


def _is_steady(powers: Floats) -> Flags:
    """Return, for each frame, whether its spectrum is that of the frame 96 ms before or after."""
    spectra = np.sqrt(powers)
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True) + np.float32(_FLOOR)
    alike = np.einsum("ij,ij->i", spectra[_LAG_FRAMES:], spectra[:-_LAG_FRAMES]) > _LEAST_ALIKE
    steady = np.zeros(len(powers), bool)
    steady[_LAG_FRAMES:] |= alike
    steady[:-_LAG_FRAMES] |= alike
    return steady


def _longest_run(marked: Flags) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _near(marked: Flags, frames: int) -> Flags:
    """Return the marked frames and as many to each side of them."""
    return np.convolve(marked, np.ones(2 * frames + 1), "same") > 0.5  # noqa: PLR2004 -- 0 or at least 1


def _is_even(powers: Floats, part: Flags, limit: float) -> bool:
    """Return whether a part of the frames holds even noise, or less than a limit."""
    if not part.any():
        return True
    most = max(limit, _MOST_UNEVEN * float(np.quantile(powers[part], 0.2)))
    return _longest_run(part & (powers > most)) <= _MOST_UNEVEN_FRAMES
