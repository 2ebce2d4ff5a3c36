"""Speech made harder by script."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks import variants
from benchmarks.clips import sentences
from benchmarks.noises import noises, tone
from benchmarks.signals import RATE_HZ, Samples, from_pcm, rms

SPEECH = from_pcm(sentences()[0].pcm)


@pytest.mark.parametrize("tempo", [0.7, 1.3, 1.8])
def test_tempo_keeps_the_pitch(tempo: float) -> None:
    """WORD-1: at another tempo a recording is as much shorter or longer, at the same pitch."""
    changed = variants.at_tempo(tone(440, seconds=2.0), tempo)
    assert len(changed) == pytest.approx(2.0 * RATE_HZ / tempo, rel=0.03)
    assert np.abs(np.fft.rfft(changed)).argmax() * RATE_HZ / len(changed) == pytest.approx(440, abs=2)


def test_variants_are_the_same_at_every_run() -> None:
    """Every variant of one recording has the same samples each time."""
    for change in (
        variants.in_room, variants.by_telephone, variants.without_pauses,
        lambda samples: variants.at_tempo(samples, 1.3), lambda samples: variants.under_noise(samples, 10),
    ):  # fmt: skip
        assert np.array_equal(change(SPEECH), change(SPEECH))


@pytest.mark.parametrize("signal_to_noise_db", [20, 10, 5])
@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_noise_is_as_strong_as_stated(signal_to_noise_db: float, exponent: float) -> None:
    """White and pink noise beneath speech have the stated distance in level."""
    beneath = variants.under_noise(SPEECH, signal_to_noise_db, exponent) - SPEECH
    assert 20 * np.log10(rms(SPEECH) / rms(beneath)) == pytest.approx(signal_to_noise_db, abs=0.01)


def test_telephone_has_a_narrow_band() -> None:
    """By telephone, tones outside 300 to 3,400 Hz are gone and those inside are kept at their place."""
    passed = {
        frequency_hz: rms(variants.by_telephone(tone(frequency_hz, seconds=1.0))) / rms(tone(frequency_hz, seconds=1.0))
        for frequency_hz in (100, 1_000, 6_000)
    }
    assert passed[1_000] == pytest.approx(1, abs=0.05)
    assert passed[100] < 0.03
    assert passed[6_000] < 0.03
    line = variants.by_telephone(tone(1_000, seconds=1.0))
    assert np.abs(np.fft.rfft(line)).argmax() == 1_000


def test_room_echoes() -> None:
    """In a room a click has an echo that dies away, 30 dB within half of the reverberation time."""
    click = np.zeros(RATE_HZ)
    click[100] = 1.0
    echo = variants.in_room(click, 0.4)
    early, late = rms(echo[400:1_200]), rms(echo[100 + 3_200 : 100 + 4_000])
    assert 20 * np.log10(early / late) == pytest.approx(26, abs=6)


def test_quiet_speech_is_quiet() -> None:
    """A recording 30 dB down has a thirty-second of its level."""
    assert rms(SPEECH) / rms(variants.quieter(SPEECH, -30)) == pytest.approx(31.6, rel=0.01)


def test_recordings_are_joined_and_overlap() -> None:
    """Joined recordings stand one after the other with a pause, or overlap by as much."""
    one = np.ones(RATE_HZ)
    apart, over = variants.joined([one, one], 0.5), variants.joined([one, one], -0.5)
    assert len(apart) == 3 * RATE_HZ
    assert len(over) == 1.5 * RATE_HZ
    assert apart[RATE_HZ : RATE_HZ * 3 // 2].max() == 0
    assert (over[RATE_HZ // 2 : RATE_HZ] == 2).all()


def test_pauses_are_cut() -> None:
    """Without pauses nothing that sounds is gone, and no silence is longer than allowed."""
    silence: Samples = np.zeros(RATE_HZ)
    spaced = np.concatenate([silence, SPEECH, silence, SPEECH, silence])
    cut = variants.without_pauses(spaced)
    assert rms(cut) ** 2 * len(cut) == pytest.approx(rms(spaced) ** 2 * len(spaced), rel=0.01)
    edges = variants.sounding(cut)
    assert max(after[0] - before[1] for before, after in pairwise(edges)) <= 0.14 * RATE_HZ


def test_babble_has_all_talkers() -> None:
    """Babble holds every talker at the same strength."""
    talkers = [tone(300, seconds=1.0), tone(700, seconds=1.0, peak=0.01)]
    spectrum = np.abs(np.fft.rfft(variants.babble(talkers)))
    assert spectrum[300] == pytest.approx(spectrum[700], rel=0.01)


def test_noise_repeats_beneath_longer_speech() -> None:
    """A sound shorter than the speech is repeated beneath it to its end."""
    [click] = [noise.samples for noise in noises() if noise.name == "clicks"]
    beneath = variants.under(np.tile(SPEECH, 2), click, 10) - np.tile(SPEECH, 2)
    assert rms(beneath[-RATE_HZ:]) > 0
