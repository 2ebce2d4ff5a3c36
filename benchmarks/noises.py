"""Sounds without a word, each made from numbers alone: silences, noises, tones, signals, music and everyday sounds.

A recogniser should give no words for any of them. Every kind is the same at every run.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from benchmarks.signals import RATE_HZ, Samples, at_peak, at_rms, band, colored_noise, convolved, random_for, times_s

SECONDS = 8.0
"""The length of each kind: long enough for a repetition of the slowest ringing tone."""


class Noise(NamedTuple):
    """One kind of sound.

    Attributes:
        name: What it is.
        samples: 16 kHz floats.
        is_tone: Whether it holds nothing but steady, switched or gliding tones above 200 Hz and silence.
    """

    name: str
    samples: Samples
    is_tone: bool


def sum_of(waves: list[Samples]) -> Samples:
    """Return sounds of equal length at once."""
    together = np.zeros_like(waves[0])
    for wave in waves:
        together += wave
    return together


def tone(*frequencies_hz: float, seconds: float = SECONDS, peak: float = 0.3) -> Samples:
    """Return sines of equal strength together."""
    time = times_s(seconds)
    return at_peak(sum_of([np.sin(2 * np.pi * frequency_hz * time) for frequency_hz in frequencies_hz]), peak)


def square(frequency_hz: int, seconds: float = SECONDS, peak: float = 0.3) -> Samples:
    """Return a square wave."""
    halves = np.arange(round(seconds * RATE_HZ)) * 2 * frequency_hz // RATE_HZ
    return np.where(halves % 2 == 0, peak, -peak)


def saw(frequency_hz: int, seconds: float = SECONDS, peak: float = 0.3) -> Samples:
    """Return a sawtooth wave."""
    return peak * (2 * (np.arange(round(seconds * RATE_HZ)) * frequency_hz % RATE_HZ / RATE_HZ) - 1)


def switched(samples: Samples, *on_off_s: float) -> Samples:
    """Switch a sound on and off: seconds on, off, on, off, repeated to its end."""
    edges = np.cumsum(on_off_s)
    phase_s = (np.arange(len(samples)) / RATE_HZ) % edges[-1]
    is_on = np.searchsorted(edges, phase_s, side="right") % 2 == 0
    return np.where(is_on, samples, 0.0)


def glide(frequencies_hz: Samples, peak: float = 0.3) -> Samples:
    """Return a sine whose frequency is given for each sample."""
    return peak * np.sin(2 * np.pi * np.cumsum(frequencies_hz) / RATE_HZ)


@cache
def noises() -> tuple[Noise, ...]:
    """Return every kind, silences first."""
    return tuple(
        Noise(name, make(), is_tone) for kinds, is_tone in ((_NOT_TONES, False), (_TONES, True)) for name, make in kinds
    )


def _noise(name: str, exponent: float, level: float) -> Samples:
    return at_rms(colored_noise(random_for(name), SECONDS, exponent), level)


def _dither() -> Samples:
    return random_for("dither").integers(-1, 2, round(SECONDS * RATE_HZ)) / 32_768


def _hum(mains_hz: float) -> Samples:
    harmonics = (1.0, 0.5, 0.4, 0.2, 0.15, 0.1)
    time = times_s(SECONDS)
    waves = [size * np.sin(2 * np.pi * mains_hz * (n + 1) * time + n) for n, size in enumerate(harmonics)]
    return at_peak(np.sum(waves, axis=0), 0.1)


def _dtmf() -> Samples:
    """A telephone number dialled: 100 ms on, 100 ms off, then a pause, twice."""
    rows_hz, columns_hz = (697, 770, 852, 941), (1209, 1336, 1477)
    silence = np.zeros(RATE_HZ // 10)
    digits = []
    for key in (4, 1, 8, 0, 3, 7, 2, 6, 9, 5):
        row, column = divmod(key, 3)
        digits += [tone(rows_hz[row], columns_hz[column], seconds=0.1), silence]
    number = np.concatenate([*digits, np.zeros(2 * RATE_HZ)])
    return np.tile(number, 2)


def _fax() -> Samples:
    """A fax machine's call (1,100 Hz, 0.5 s of 3.5) and answer (2,100 Hz, 3 s)."""
    return np.concatenate([switched(tone(1_100, seconds=4.5), 0.5, 3.0), tone(2_100, seconds=3.0), np.zeros(RATE_HZ)])


def _modem() -> Samples:
    """A modem's data: 1,200 and 2,200 Hz, changed at random 300 times a second, between carriers."""
    random = random_for("modem")
    bits = np.repeat(random.integers(0, 2, 3 * 300), RATE_HZ // 300 + 1)[: 3 * RATE_HZ]
    data = glide(np.where(bits, 1_200.0, 2_200.0))
    return np.concatenate([tone(2_225, seconds=2.0), data, tone(1_270, seconds=2.0), np.zeros(RATE_HZ)])


def _smoke_alarm() -> Samples:
    return switched(square(3_100, peak=0.4), 0.5, 0.5, 0.5, 0.5, 0.5, 1.5)


def _siren_wail() -> Samples:
    return glide(1_000 + 400 * np.sin(2 * np.pi * times_s(SECONDS) / 4))


def _siren_yelp() -> Samples:
    return glide(700 + 900 * ((times_s(SECONDS) * 3) % 1))


def _siren_two_tone() -> Samples:
    return glide(np.where((times_s(SECONDS) % 1.2) < 0.6, 440.0, 585.0))  # noqa: PLR2004 -- half of 1.2 s


def _sweep() -> Samples:
    return glide(100 * 2 ** (times_s(SECONDS) * 0.75))


def _beating() -> Samples:
    """A British ring: 400 and 450 Hz, 0.4 s on, 0.2 off, 0.4 on, 2 off."""
    return switched(tone(400, 450), 0.4, 0.2, 0.4, 2.0)


def _bursts(name: str, starts_s: Samples, decay_s: float, low_hz: float, high_hz: float) -> Samples:
    """Return short bursts of noise within a band, each dying away with `decay_s`, of varying strength."""
    random = random_for(name)
    train = np.zeros(round(SECONDS * RATE_HZ))
    positions = (starts_s[starts_s < SECONDS - 0.001] * RATE_HZ).astype(int)
    np.add.at(train, positions, random.uniform(0.4, 1.0, len(positions)))
    time = times_s(8 * decay_s)
    burst = random.standard_normal(len(time)) * np.exp(-time / decay_s)
    return at_peak(band(convolved(train, burst), low_hz, high_hz), 0.5)


def _random_starts(name: str, per_s: float) -> Samples:
    return np.cumsum(random_for(name).exponential(1 / per_s, round(SECONDS * per_s * 2)))


def _clicks() -> Samples:
    samples = np.zeros(round(SECONDS * RATE_HZ))
    samples[:: RATE_HZ // 4] = 0.8
    return samples


def _crackle() -> Samples:
    samples = np.zeros(round(SECONDS * RATE_HZ))
    starts_s = _random_starts("crackle", 60)
    samples[(starts_s[starts_s < SECONDS] * RATE_HZ).astype(int)] = 0.5
    return band(samples, 300, 7_000) + _noise("crackle", 1.0, 0.003)


def _keyboard() -> Samples:
    down_s = np.cumsum(random_for("keyboard").uniform(0.08, 0.3, 60))
    return _bursts("keyboard", np.concatenate([down_s, down_s + 0.06]), 0.004, 800, 7_000)


def _applause() -> Samples:
    return _bursts("applause", _random_starts("applause", 120), 0.012, 600, 5_000)


def _pluck(frequency_hz: float, seconds: float, random: np.random.Generator) -> Samples:
    """Return a plucked string by the algorithm of Karplus and Strong: a burst of noise, averaged in a loop."""
    period = random.uniform(-1, 1, round(RATE_HZ / frequency_hz))
    periods = []
    for _ in range(round(seconds * frequency_hz) + 1):
        periods.append(period)
        period = 0.996 * 0.5 * (period + np.roll(period, -1))
    return np.concatenate(periods)[: round(seconds * RATE_HZ)]


def _plucked() -> Samples:
    random = random_for("plucked")
    notes_hz = (196, 247, 294, 392, 330, 294, 247, 220, 262, 330, 392, 440, 392, 330, 262, 247)
    return at_peak(np.concatenate([_pluck(note, 0.5, random) for note in notes_hz]), 0.4)


def _note(frequency_hz: float, seconds: float) -> Samples:
    time = times_s(seconds)
    vibrato = 0.004 * np.sin(2 * np.pi * 5 * time) * frequency_hz / 5
    waves = [np.sin(n * (2 * np.pi * frequency_hz * time + vibrato)) / n**1.5 for n in range(1, 9)]
    envelope: Samples = np.minimum(1, time / 0.08) * np.minimum(1, (seconds - time) / 0.15)
    note: Samples = envelope * np.sum(waves, axis=0)
    return note


def _chords() -> Samples:
    chords_hz = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))
    return at_peak(np.concatenate([np.sum([_note(note, 2.0) for note in chord], axis=0) for chord in chords_hz]), 0.4)


def _drum_loop() -> Samples:
    beats_s = np.arange(0, SECONDS, 0.5)
    kick = _bursts("kick", beats_s[::2], 0.05, 40, 120)
    snare = _bursts("snare", beats_s[1::2], 0.05, 200, 6_000)
    return at_peak(kick + 0.7 * snare + 0.4 * _bursts("hat", np.arange(0, SECONDS, 0.25), 0.01, 5_000, 7_500), 0.5)


def _hold_music() -> Samples:
    """Chords, melody and drums, as a telephone passes them."""
    melody_hz = (523, 659, 784, 659, 440, 523, 659, 523, 349, 440, 523, 440, 392, 494, 587, 494)
    melody = np.concatenate([_note(note, 0.5) for note in melody_hz])
    return at_peak(band(_chords() + 0.15 * melody + 0.3 * _drum_loop(), 300, 3_400), 0.4)


def _wind() -> Samples:
    slow = np.abs(band(colored_noise(random_for("gusts"), SECONDS, 1.0), 0.2, 2))
    return at_rms(band(colored_noise(random_for("wind"), SECONDS, 1.5), 50, 1_500) * slow, 0.08)


def _rain() -> Samples:
    drops = _bursts("drops", _random_starts("drops", 200), 0.002, 1_500, 7_500)
    return at_rms(drops + _noise("rain", 0.5, 0.02), 0.04)


def _breath() -> Samples:
    """Breathing in and out, 15 times a minute, close to a microphone."""
    swell = np.maximum(0, np.sin(2 * np.pi * times_s(SECONDS) / 2)) ** 2
    return at_rms(band(colored_noise(random_for("breath"), SECONDS, 1.0), 200, 4_000) * swell, 0.02)


def _birds() -> Samples:
    """Chirps between 2.5 and 5 kHz, 60 to 150 ms each, in groups."""
    random = random_for("birds")
    parts: list[Samples] = []
    while sum(len(part) for part in parts) < SECONDS * RATE_HZ:
        time = times_s(random.uniform(0.06, 0.15))
        start_hz, end_hz = random.uniform(2_500, 5_000, 2)
        envelope = np.sin(np.pi * np.arange(len(time)) / len(time))
        parts.append(glide(np.linspace(start_hz, end_hz, len(time))) * envelope)
        parts.append(np.zeros(round(random.choice([0.04, 0.06, 0.5]) * RATE_HZ)))
    return np.concatenate(parts)[: round(SECONDS * RATE_HZ)]


def _engine() -> Samples:
    """An engine at a varying speed: harmonics of its firing, and noise at each stroke."""
    firing_hz = 30 + 10 * np.sin(2 * np.pi * times_s(SECONDS) / 6)
    phase = 2 * np.pi * np.cumsum(firing_hz) / RATE_HZ
    wave = np.sum([np.sin(n * phase + n * n) / n for n in range(1, 20)], axis=0)
    return at_rms(wave + 0.5 * colored_noise(random_for("engine"), SECONDS, 1.0) * (1 + np.sin(phase)), 0.1)


def _knocks() -> Samples:
    return _bursts("knocks", np.array([0.5, 0.7, 0.9, 3.0, 3.2, 3.4, 3.6, 6.0, 6.2, 6.4]), 0.03, 80, 1_200)


def _fan() -> Samples:
    return _noise("fan", 1.0, 0.03) + 0.1 * _hum(120)


def _footsteps() -> Samples:
    return _bursts("steps", np.arange(0.3, SECONDS, 0.55), 0.04, 60, 800)


def _paper() -> Samples:
    return _bursts("paper", _random_starts("paper", 30), 0.02, 1_500, 7_500) * (times_s(SECONDS) % 2 < 1.2)  # noqa: PLR2004


_NOT_TONES: tuple[tuple[str, Callable[[], Samples]], ...] = (
    ("silence", lambda: np.zeros(round(SECONDS * RATE_HZ))),
    ("dither", _dither),
    ("white_quiet", lambda: _noise("white", 0, 0.003)),
    ("white", lambda: _noise("white", 0, 0.03)),
    ("white_loud", lambda: _noise("white", 0, 0.2)),
    ("pink", lambda: _noise("pink", 1, 0.03)),
    ("pink_loud", lambda: _noise("pink", 1, 0.15)),
    ("brown", lambda: _noise("brown", 2, 0.1)),
    ("clicks", _clicks),
    ("crackle", _crackle),
    ("keyboard", _keyboard),
    ("applause", _applause),
    ("plucked", _plucked),
    ("chords", _chords),
    ("drums", _drum_loop),
    ("hold_music", _hold_music),
    ("wind", _wind),
    ("rain", _rain),
    ("breath", _breath),
    ("birds", _birds),
    ("engine", _engine),
    ("knocks", _knocks),
    ("fan", _fan),
    ("footsteps", _footsteps),
    ("paper", _paper),
    ("modem", _modem),
    ("hum_50", lambda: _hum(50)),
    ("hum_60", lambda: _hum(60)),
)

_TONES: tuple[tuple[str, Callable[[], Samples]], ...] = (
    ("sine_440", lambda: tone(440, peak=0.2)),
    ("sine_1000_loud", lambda: tone(1_000, peak=0.9)),
    ("sine_250_quiet", lambda: tone(250, peak=0.02)),
    ("square_900", lambda: square(900)),
    ("saw_220", lambda: saw(220)),
    ("ring_us", lambda: switched(tone(440, 480), 2.0, 4.0)),
    ("ring_uk", _beating),
    ("ring_europe", lambda: switched(tone(425), 1.0, 4.0)),
    ("dial_us", lambda: tone(350, 440)),
    ("busy_us", lambda: switched(tone(480, 620), 0.5, 0.5)),
    ("busy_europe", lambda: switched(tone(425), 0.48, 0.48)),
    ("dtmf", _dtmf),
    ("fax", _fax),
    ("alarm_clock", lambda: switched(square(900), 0.25, 0.25)),
    ("smoke_alarm", _smoke_alarm),
    ("siren_wail", _siren_wail),
    ("siren_yelp", _siren_yelp),
    ("siren_two_tone", _siren_two_tone),
    ("sweep", _sweep),
)
