"""Pairs of channels by script: one talker at two microphones, and two talkers with what joins them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

RATE_HZ = 16_000

Sound = npt.NDArray[np.float64]
"""Samples of one channel, on the scale of 16-bit samples."""

Pair = tuple[Sound, Sound]


def level(sound: Sound, gain_db: float) -> Sound:
    """The sound, louder by `gain_db`."""
    return sound * 10 ** (gain_db / 20)


def delayed(sound: Sound, delay_ms: float) -> Sound:
    """The sound, later by any fraction of a sample; silence comes in and its end is kept."""
    if not delay_ms:
        return sound
    length = _padded(len(sound) + RATE_HZ // 10)
    spectrum = np.fft.rfft(sound, length)
    turns = np.arange(len(spectrum)) * (delay_ms * RATE_HZ / 1_000 / length)
    return np.fft.irfft(spectrum * np.exp(-2j * np.pi * turns), length)[: len(sound)]


def noise_like(sound: Sound, snr_db: float, seed: int) -> Sound:
    """Pink noise, `snr_db` below the sound."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=_padded(len(sound))))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20))
    noise = np.fft.irfft(spectrum)[: len(sound)]
    return noise * (_rms(sound) / _rms(noise) * 10 ** (-snr_db / 20))


def in_room(sound: Sound, *, decay_s: float, direct_db: float, seed: int) -> Sound:
    """The sound with a room's reverberation, which falls by 60 dB in `decay_s` and lies `direct_db` below the sound."""
    time_s = np.arange(int(decay_s * RATE_HZ)) / RATE_HZ
    tail = np.random.default_rng(seed).normal(size=len(time_s)) * 10 ** (-3 * time_s / decay_s)
    tail[: RATE_HZ // 500] = 0  # the first reflection comes after two milliseconds
    tail *= 10 ** (-direct_db / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    length = _padded(len(sound) + len(tail))
    return np.fft.irfft(np.fft.rfft(sound, length) * np.fft.rfft(tail, length), length)[: len(sound)]


def lowpassed(sound: Sound, cutoff_hz: float) -> Sound:
    """The sound without what lies above `cutoff_hz`, as through another microphone."""
    length = _padded(len(sound))
    frequencies = np.fft.rfftfreq(length, 1 / RATE_HZ)
    return np.fft.irfft(np.fft.rfft(sound, length) / np.sqrt(1 + (frequencies / cutoff_hz) ** 4))[: len(sound)]


def tone(seconds: float, frequency_hz: float, amplitude: float = 6_000) -> Sound:
    """A steady tone."""
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)


def jingle(seconds: float, seed: int = 1) -> Sound:
    """Plucked notes with harmonics."""
    chance, out = np.random.default_rng(seed), np.zeros(int(seconds * RATE_HZ))
    for at in np.arange(0, seconds - 0.25, 0.25):
        frequency_hz, first = 220 * 2 ** (chance.integers(0, 25) / 12), int(at * RATE_HZ)
        time_s = np.arange(min(len(out) - first, RATE_HZ)) / RATE_HZ
        for harmonic in range(1, 6):
            note = np.sin(2 * np.pi * harmonic * frequency_hz * time_s) * np.exp(-time_s * 3 * harmonic)
            out[first : first + len(note)] += 4_000 / harmonic * note
    return out


def interleaved(left: Sound, right: Sound) -> bytes:
    """The pair as interleaved 16-bit samples."""
    return np.stack([left, right], axis=1).clip(-32_768, 32_767).round().astype("<i2").tobytes()


ONE_TALKER: dict[str, Callable[[Sound], Pair]] = {
    "the same": lambda s: (s, s),
    "1 dB apart": lambda s: (s, level(s, -1)),
    "6 dB apart": lambda s: (s, level(s, -6)),
    "inverted": lambda s: (s, -s),
    "inverted, 3 dB apart": lambda s: (s, -level(s, -3)),
    "0.3 ms late": lambda s: (s, delayed(s, 0.3)),
    "0.6 ms early": lambda s: (delayed(s, 0.6), s),
    "6 ms late, inverted": lambda s: (s, -delayed(s, 6.1)),
    "15 ms late": lambda s: (s, delayed(s, 15)),
    "noises at 50 dB": lambda s: (s + noise_like(s, 50, 1), s + noise_like(s, 50, 2)),
    "noises at 20 dB": lambda s: (s + noise_like(s, 20, 1), s + noise_like(s, 20, 2)),
    "noises at 10 dB": lambda s: (s + noise_like(s, 10, 1), level(s, -3) + noise_like(s, 13, 2)),
    "a noise at 5 dB on one": lambda s: (s, s + noise_like(s, 5, 2)),
    "a room on the left, 0.6 ms": lambda s: (in_room(s, decay_s=0.4, direct_db=6, seed=1), delayed(s, 0.6)),
    "a room on both": lambda s: (
        in_room(s, decay_s=0.4, direct_db=3, seed=1),
        level(delayed(in_room(s, decay_s=0.4, direct_db=3, seed=2), 1), -2),
    ),
    "far away in a room": lambda s: (
        in_room(s, decay_s=0.5, direct_db=0, seed=3), delayed(in_room(s, decay_s=0.5, direct_db=0, seed=4), 2.2)
    ),
    "far away in a hall": lambda s: (
        in_room(s, decay_s=0.9, direct_db=0, seed=3), delayed(in_room(s, decay_s=0.9, direct_db=0, seed=4), 0.8)
    ),
    "a room and noises at 15 dB": lambda s: (
        in_room(s, decay_s=0.3, direct_db=3, seed=5) + noise_like(s, 15, 3),
        delayed(in_room(s, decay_s=0.3, direct_db=3, seed=6), 0.5) + noise_like(s, 15, 4),
    ),
    "a dull microphone": lambda s: (s, level(lowpassed(s, 1_500), -2)),
    "overdriven on one": lambda s: (s, level(s, 12).clip(-9_000, 9_000)),
    "a near and a far microphone": lambda s: (
        s, level(delayed(in_room(s, decay_s=0.4, direct_db=0, seed=7), 8), -8) + noise_like(s, 35, 5)
    ),
}  # fmt: skip
"""From a talker's speech to what two microphones make of it."""


def _turns(first: Sound, second: Sound) -> Pair:
    return np.concatenate([first, second * 0]), np.concatenate([first * 0, second])


def _at_once(first: Sound, second: Sound) -> Pair:
    count = min(len(first), len(second))
    return first[:count], second[:count]


def _bled(pair: Pair, db_: float, delay_ms: float = 0.0, *, both: bool = True) -> Pair:
    left, right = pair
    into_right = right + level(delayed(left, delay_ms), db_)
    return (left + level(delayed(right, delay_ms), db_) if both else left), into_right


def _with_noise(pair: Pair, snr_db: float) -> Pair:
    left, right = pair
    loud = left + right
    return left + noise_like(loud, snr_db, 8), right + noise_like(loud, snr_db, 9)


def _with_common_noise(pair: Pair, snr_db: float) -> Pair:
    left, right = pair
    hum = noise_like(left + right, snr_db, 10)
    return left + hum, right + hum


TWO_TALKERS: dict[str, Callable[[Sound, Sound], Pair]] = {
    "in turn": _turns,
    "at once": _at_once,
    "in turn, line noise at 25 dB": lambda a, b: _with_noise(_turns(a, b), 25),
    "in turn, one noise on both at 25 dB": lambda a, b: _with_common_noise(_turns(a, b), 25),
    "at once, bleeding at -15 dB": lambda a, b: _bled(_at_once(a, b), -15, 1.3),
    "at once, bleeding at -10 dB": lambda a, b: _bled(_at_once(a, b), -10, 2.1),
    "in turn, bleeding at -15 dB": lambda a, b: _bled(_turns(a, b), -15, 1.3),
    "in turn, bleeding at -10 dB": lambda a, b: _bled(_turns(a, b), -10, 2.1),
    "in turn, one bleeds at -15 dB": lambda a, b: _bled(_turns(a, b), -15, 1.3, both=False),
    "at once, one bleeds at -15 dB": lambda a, b: _bled(_at_once(a, b), -15, 0.4, both=False),
    "in turn, bleeding at -12 dB in a room": lambda a, b: _bled(
        _turns(in_room(a, decay_s=0.3, direct_db=8, seed=11), in_room(b, decay_s=0.3, direct_db=8, seed=12)), -12, 4
    ),
    "in turn, an echo at -20 dB": lambda a, b: _bled(_turns(a, b), -20, 18),
    "one louder by 12 dB, at once": lambda a, b: _at_once(a, level(b, -12)),
    "one alone": lambda a, _: (a, a * 0),
    "one alone, line noise at 25 dB": lambda a, _: _with_noise((a, a * 0), 25),
    "a beep first, at once": lambda a, b: _after(tone(1.2, 1_400), _at_once(a, b)),
    "a jingle first, at once": lambda a, b: _after(jingle(1.5), _at_once(a, b)),
    "a long jingle first, in turn": lambda a, b: _after(jingle(6), _turns(a, b)),
    "ringing first, in turn": lambda a, b: _after(_ringing(), _turns(a, b)),
    "ringing first, at once": lambda a, b: _after(_ringing(), _at_once(a, b)),
}  # fmt: skip
"""From two talkers' speech to a channel of each."""


def _ringing() -> Sound:
    ring, pause = tone(2, 440, 3_000) + tone(2, 480, 3_000), np.zeros(RATE_HZ)
    return np.concatenate([pause, ring, pause, ring, pause])


def _after(common: Sound, pair: Pair) -> Pair:
    left, right = pair
    return np.concatenate([common, left]), np.concatenate([common, right])


def _padded(length: int) -> int:
    return 1 << length.bit_length()  # other lengths take an FFT ten times as long


def _rms(sound: Sound) -> float:
    return float(np.sqrt((sound**2).mean()))
