"""The recordings and kinds of clips that recognisers are measured on."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import corpus
from benchmarks.corpus import MORE_SPEECH
from benchmarks.signals import RATE_HZ
from benchmarks.variants import joined
from benchmarks.word_times import timed_clips

needs_more = pytest.mark.skipif(MORE_SPEECH not in os.environ, reason=f"{MORE_SPEECH} names no folder of recordings")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    corpus.recordings.cache_clear()


def test_bundled_sentences_are_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder of more recordings the five sentences are measured, for tuning alone."""
    monkeypatch.delenv(MORE_SPEECH, raising=False)
    assert [one.name for one in corpus.recordings()] == [f"sense-{number}" for number in range(5)]
    assert corpus.recordings("reporting") == ()


def test_missing_folder_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder that is named but absent raises, so that no run measures less than it was asked to."""
    monkeypatch.setenv(MORE_SPEECH, str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        corpus.recordings()


def test_every_kind_has_speech_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind but the digits' and the noise's is made of the bundled sentences alone, and names their words."""
    monkeypatch.delenv(MORE_SPEECH, raising=False)
    for name, make in corpus.kinds("tuning").items():
        spoken = make()
        assert spoken or name == "dense_digits", name
        assert all(bool(one.words) == (name != "noise") for one in spoken)
    assert corpus.kinds("tuning")["repeated_3"]()[1].words.count("young man") == 3


@needs_more
def test_halves_share_no_reader_clip() -> None:
    """No recording is both for tuning and for reporting, and each half has speech and digits."""
    tuning, reporting = ({one.name for one in corpus.recordings(half)} for half in ("tuning", "reporting"))
    assert not tuning & reporting
    assert {"ljA", "dig-george"} <= tuning
    assert {"ljB", "jfk", "dig-lucas"} <= reporting


@needs_more
def test_digits_have_known_positions() -> None:
    """WORD-3: clips of digits are cut where each digit sounds, one clip for five of them."""
    clips = timed_clips(corpus.recordings(), 0.25)
    assert len(clips) == 12
    for timed in clips:
        samples = np.frombuffer(timed.clip.pcm, "<i2")
        for start_s, end_s in timed.times_s:
            assert np.abs(samples[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)]).max() > 500
        between = samples[round(timed.times_s[0][1] * RATE_HZ) : round(timed.times_s[1][0] * RATE_HZ)]
        assert np.abs(between).max() < 0.25 * np.abs(samples).max()


def test_digits_are_cut_at_silence() -> None:
    """Sounds with 0.15 s between are digits of their own; a dip of 50 ms is inside one."""
    sound = np.full(RATE_HZ // 4, 0.3)
    inside = joined([sound, sound], 0.05)
    recording = corpus.Recording("dig", joined([inside, sound], 0.15), "one two")
    assert [len(one) for one in corpus.digits(recording)] == [len(inside) - RATE_HZ // 20, len(sound)]
