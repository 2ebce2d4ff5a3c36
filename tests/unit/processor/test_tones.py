"""WORD-2: ringing, alarms and other tones are recognised as such, and no speech ever is."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import variants
from benchmarks.clips import sentences, short
from benchmarks.noises import Noise, noises, square, switched, tone
from benchmarks.signals import (
    RATE_HZ,
    Samples,
    at_peak,
    at_rms,
    colored_noise,
    from_pcm,
    random_for,
    rms,
    times_s,
    to_pcm,
)
from processor.speech import Segmenter, SegmenterSettings
from processor.speech.features import to_recogniser_rate
from processor.speech.tones import is_tone

TONES = [noise for noise in noises() if noise.is_tone]
MISSED = {"sine_250_quiet", "sweep", "fax"}
"""Kinds of which an utterance may be missed: too low at its start, or a single beep shorter than 0.6 s."""

HARDER: dict[str, Callable[[Samples], Samples]] = {
    "plain": lambda samples: samples,
    "slow": lambda samples: variants.at_tempo(samples, 0.7),
    "fast": lambda samples: variants.at_tempo(samples, 1.8),
    "room": variants.in_room,
    "telephone": variants.by_telephone,
    "quiet": lambda samples: variants.quieter(samples, -30),
    "noise": lambda samples: variants.under_noise(samples, 5),
}


def found_tone(samples: Samples) -> bool:
    """Whether the detector takes these samples, as 16-bit PCM, for tones."""
    return is_tone(to_recogniser_rate(to_pcm(samples), RATE_HZ))


def utterances(samples: Samples) -> list[Samples]:
    """The utterances that the segmenter finds."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    found = segmenter.feed(to_pcm(samples)) + segmenter.close()
    return [from_pcm(boundary.utterance.pcm) for boundary in found if boundary.utterance]


@pytest.mark.parametrize("kind", [one for one in TONES if one.name not in MISSED], ids=lambda kind: kind.name)
def test_tones_are_recognised(kind: Noise) -> None:
    """WORD-2: every utterance of ringing, dialling, alarms, sirens and steady tones is recognised as tones."""
    found = utterances(kind.samples)
    assert found
    assert all(found_tone(utterance) for utterance in found)


@pytest.mark.parametrize("level", [0.01, 0.1, 0.9])
def test_ringing_and_alarm_at_any_level(level: float) -> None:
    """WORD-2: an American ringing tone and an alarm clock's beep are recognised at any level."""
    assert found_tone(at_peak(switched(tone(440, 480), 2.0, 4.0), level))
    assert found_tone(at_peak(switched(square(900), 0.25, 0.25), level))


def test_tone_in_even_noise() -> None:
    """WORD-2: a ringing tone by telephone, with its even noise, is recognised."""
    ringing = variants.by_telephone(switched(tone(440, 480), 2.0, 4.0))
    noise = at_rms(colored_noise(random_for("line"), len(ringing) / RATE_HZ, 0), 0.0005)
    assert found_tone(ringing + noise)


@pytest.mark.parametrize("harder", HARDER)
def test_no_speech_is_a_tone(harder: str) -> None:
    """WORD-2: no sentence and no single word is taken for tones, whatever its rate, room, line, level or noise."""
    change = HARDER[harder]
    clips = [change(from_pcm(clip.pcm)) for clip in (*sentences(), *short())]
    assert [number for number, clip in enumerate(clips) if found_tone(clip)] == []


@pytest.mark.parametrize("kind", [one for one in TONES if one.name != "saw_220"], ids=lambda kind: kind.name)
def test_speech_beneath_a_tone_is_kept(kind: Noise) -> None:
    """WORD-2: speech beneath a tone is not taken for tones, even 20 dB below it."""
    for signal_to_noise_db in (10, 0, -10, -20):
        for clip in sentences():
            mixed = variants.under(from_pcm(clip.pcm), kind.samples, signal_to_noise_db)
            assert not found_tone(mixed / max(1.0, float(np.abs(mixed).max())))


@pytest.mark.parametrize("name", ["ring_us", "busy_us", "alarm_clock", "dtmf"])
def test_speech_behind_a_tone_is_kept(name: str) -> None:
    """WORD-2: speech much quieter than the tones before it is not lost with them."""
    kind = next(one for one in TONES if one.name == name)
    for clip in short():
        spoken = at_rms(from_pcm(clip.pcm), rms(kind.samples) / 10)
        assert not found_tone(np.concatenate([kind.samples, spoken]))


def test_moving_vowel_is_kept() -> None:
    """WORD-2: a hummed vowel, whose pitch moves as voices do, is not taken for tones."""
    for pitch_hz in (90, 150, 220, 300):
        time = times_s(1.0)
        phase = 2 * np.pi * pitch_hz * np.cumsum(1 + 0.02 * np.sin(2 * np.pi * 5 * time)) / RATE_HZ
        harmonics = [np.sin(n * phase + n) / n**2 for n in range(1, 12)]
        assert not found_tone(at_peak(np.sum(harmonics, axis=0), 0.3))


@pytest.mark.parametrize("kind", [one for one in noises() if not one.is_tone and one.name != "birds"],
                         ids=lambda kind: kind.name)
def test_noise_and_music_are_no_tones(kind: Noise) -> None:
    """WORD-2: only tones are taken for tones, so noise and music reach the recogniser's own judgement."""
    assert not found_tone(kind.samples)


def test_too_short_and_empty_clips_are_no_tones() -> None:
    """WORD-2: a clip too short to judge is kept."""
    assert not found_tone(tone(440, seconds=0.3))
    assert not found_tone(np.zeros(0))
