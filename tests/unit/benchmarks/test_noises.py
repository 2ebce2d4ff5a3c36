"""The sounds without a word that recognisers are measured on."""

import numpy as np
import pytest

from benchmarks.noises import SECONDS, glide, noises, square, switched, tone
from benchmarks.signals import RATE_HZ, at_peak, at_rms, colored_noise, random_for, rms


def test_kinds_are_many_and_named_once() -> None:
    """WORD-2: 40 kinds and more are there, under names of their own, none empty or clipped."""
    kinds = noises()
    assert len({kind.name for kind in kinds}) == len(kinds) >= 40
    assert all(len(kind.samples) >= 0.99 * SECONDS * RATE_HZ for kind in kinds)
    assert all(np.isfinite(kind.samples).all() and np.abs(kind.samples).max() <= 1 for kind in kinds)
    assert [kind.name for kind in kinds if not kind.samples.any()] == ["silence"]


def test_kinds_are_the_same_at_every_run() -> None:
    """The sounds are made from their names alone, so a second making gives the same samples."""
    first = {kind.name: kind.samples.copy() for kind in noises()}
    noises.cache_clear()
    assert all(np.array_equal(first[kind.name], kind.samples) for kind in noises())


@pytest.mark.parametrize(("name", "level"), [("white_quiet", 0.003), ("white", 0.03), ("pink", 0.03), ("brown", 0.1)])
def test_levels_are_as_stated(name: str, level: float) -> None:
    """A noise has the root mean square that its table names."""
    [kind] = [one for one in noises() if one.name == name]
    assert rms(kind.samples) == pytest.approx(level, rel=1e-6)


@pytest.mark.parametrize(("exponent", "fall"), [(0, 1), (1, 4), (2, 16)])
def test_colors_fall_as_stated(exponent: int, fall: float) -> None:
    """White noise is as strong at 4 kHz as at 1 kHz, pink noise a quarter, brown noise a sixteenth."""
    power = np.abs(np.fft.rfft(colored_noise(random_for("color"), 20.0, exponent))) ** 2
    frequencies_hz = np.fft.rfftfreq(20 * RATE_HZ, 1 / RATE_HZ)
    at_1_khz, at_4_khz = (
        power[(frequencies_hz > 0.9 * center) & (frequencies_hz < 1.1 * center)].mean() for center in (1_000, 4_000)
    )
    assert at_1_khz / at_4_khz == pytest.approx(fall, rel=0.15)


def test_tones_have_their_frequencies() -> None:
    """Tones, squares and glides have the frequencies that they are made with."""
    def strongest_hz(samples: np.ndarray) -> float:
        return float(np.abs(np.fft.rfft(samples)).argmax() * RATE_HZ / len(samples))

    assert strongest_hz(tone(440, seconds=1.0)) == 440
    assert strongest_hz(square(900, seconds=1.0)) == 900
    assert strongest_hz(glide(np.full(RATE_HZ, 1_234.0))) == 1_234


def test_switching_follows_its_times() -> None:
    """A switched sound is on and off for the seconds given, in turn."""
    switched_on = switched(np.ones(2 * RATE_HZ), 0.25, 0.25, 0.5, 0.5)
    assert switched_on.sum() == pytest.approx(1.0 * RATE_HZ, abs=2)
    assert not switched_on[int(0.3 * RATE_HZ)]
    assert switched_on[int(0.6 * RATE_HZ)]


def test_levels_are_set() -> None:
    """A sound is scaled to a peak or a root mean square, and silence stays silent."""
    assert np.abs(at_peak(tone(100, seconds=0.5), 0.7)).max() == pytest.approx(0.7)
    assert rms(at_rms(tone(100, seconds=0.5), 0.2)) == pytest.approx(0.2)
    assert not at_peak(np.zeros(8), 0.5).any()
