"""Whether a recording's two channels carry one talker or two, judged over pairs of known making."""

import os
import time
import wave
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.decoding.layout_judge import FIRST_HELD_S, FIRST_S, MAX_HELD_S, LayoutJudge
from processor.decoding.layouts import MIX, SPLIT, Judgement
from tests.support.pcm import sentence
from tests.support.stereo_pairs import (
    ONE_TALKER,
    RATE_HZ,
    TWO_TALKERS,
    Sound,
    delayed,
    interleaved,
    jingle,
    level,
    noise_like,
    tone,
)

MORE = os.environ.get("STENOLOG_SPEECH_MORE", "")
BORDERLINE = {"in turn, bleeding at -10 dB", "at once, bleeding at -10 dB", "overdriven on one"}
"""Pairs that two seconds of one talker alone leave open: a neighbour at -10 dB, or a badly set microphone."""


@cache
def talkers() -> tuple[Sound, Sound]:
    """Two talkers' speech with pauses, some nine and eleven seconds."""
    pause = np.zeros(RATE_HZ // 2)
    first = np.concatenate([sentence("0930"), pause, sentence("0890"), pause])
    second = np.concatenate([sentence("0880"), pause, sentence("0870"), pause])
    return first.astype(np.float64), second.astype(np.float64)


def judged(pcm: bytes, *, is_recorded: bool = True, piece_bytes: int = 8_000) -> tuple[Judgement, int]:
    """The judgement, and how many samples it took."""
    judge = LayoutJudge(is_recorded=is_recorded)
    for at in range(0, len(pcm), piece_bytes):
        if found := judge.add(pcm[at : at + piece_bytes]):
            return found, (at + piece_bytes) // 4
    return judge.judgement(is_all=True), len(pcm) // 4


@pytest.mark.parametrize("is_recorded", [True, False], ids=["recorded", "live"])
@pytest.mark.parametrize("name", ONE_TALKER)
def test_one_talker_is_one(name: str, *, is_recorded: bool) -> None:
    """A talker on two channels is one, whatever level, delay, polarity, noise and room part them (MEDIA-4)."""
    talker, _ = talkers()
    found, _ = judged(interleaved(*ONE_TALKER[name](talker)), is_recorded=is_recorded)
    assert found.layout == MIX


@pytest.mark.parametrize("is_recorded", [True, False], ids=["recorded", "live"])
@pytest.mark.parametrize("name", TWO_TALKERS)
def test_two_talkers_are_two(name: str, *, is_recorded: bool) -> None:
    """Two talkers, one a channel, are two, whatever bleeds over, hums or comes before them (MEDIA-4)."""
    found, _ = judged(interleaved(*TWO_TALKERS[name](*talkers())), is_recorded=is_recorded)
    assert found.layout == SPLIT


@pytest.mark.parametrize(
    ("delay_ms", "is_inverted"), [(0.0, False), (0.0, True), (0.3, False), (-0.6, True), (6.0, True), (-19.0, False)]
)
def test_delay_and_polarity_are_found(delay_ms: float, *, is_inverted: bool) -> None:
    """The delay of a talker's second channel is known to the sample, and its polarity (MEDIA-4)."""
    talker, _ = talkers()
    other = delayed(talker, max(delay_ms, 0)) * (-1 if is_inverted else 1)
    found, _ = judged(interleaved(delayed(talker, max(-delay_ms, 0)), other))
    assert found.layout == MIX
    assert (abs(found.delay_samples - delay_ms * RATE_HZ / 1_000) < 1, found.is_inverted) == (True, is_inverted)


def test_what_comes_first_does_not_decide() -> None:
    """A minute of music and a beep on both channels leave the judgement to the talkers behind them (MEDIA-4)."""
    first, second = talkers()
    count = min(len(first), len(second))
    lead_in = np.concatenate([jingle(58), tone(2, 1_000)])
    pair = [np.concatenate([lead_in, talker[:count]]) for talker in (first, second)]
    assert judged(interleaved(*pair))[0].layout == SPLIT


def test_a_recorded_file_is_judged_by_its_later_speech_too() -> None:
    """A notice that is spoken on both channels for seconds does not make one of the two talkers after it (MEDIA-4)."""
    first, second = talkers()
    notice = sentence("0870").astype(np.float64)
    pair = interleaved(
        np.concatenate([notice, first, second * 0]), np.concatenate([notice, first * 0, second])
    )
    assert judged(pair)[0].layout == SPLIT


def test_only_one_channel_with_a_talker_is_two() -> None:
    """A channel that holds another's voice 35 dB lower, as codecs leak it, stays a channel of its own."""
    talker, _ = talkers()
    assert judged(interleaved(talker, level(talker, -35)))[0].layout == SPLIT


def test_a_live_recording_is_judged_after_two_seconds_of_speech() -> None:
    """A live recording's samples are held back until two seconds of speech, not longer."""
    talker, _ = talkers()
    quiet = np.zeros(3 * RATE_HZ)
    speech = np.concatenate([quiet, talker])
    _, taken = judged(interleaved(speech, speech), is_recorded=False)
    assert 3 + FIRST_S < taken / RATE_HZ < 3 + FIRST_S + 1


@pytest.mark.parametrize(("is_recorded", "held_s"), [(True, MAX_HELD_S), (False, FIRST_HELD_S)])
def test_silence_is_waited_out_within_a_bound(held_s: int, *, is_recorded: bool) -> None:
    """Nothing is said of silence until the bound; then it is one channel."""
    judge, second = LayoutJudge(is_recorded=is_recorded), bytes(4 * RATE_HZ)
    found = [judge.add(second) for _ in range(held_s + 1)]
    assert set(found[:-2]) == {None}
    assert Judgement(MIX) in found[-2:]


@pytest.mark.parametrize(("other", "layout"), [(1, MIX), (2, SPLIT)])
def test_without_speech_any_sound_decides(other: int, layout: str) -> None:
    """Equal noise on both channels is one channel, two noises are two."""
    ones = [noise_like(np.full(2 * RATE_HZ, 3_000.0), 0, seed) for seed in (1, other)]
    assert judged(interleaved(*ones))[0].layout == layout


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=8), is_recorded=st.booleans())
def test_pieces_never_matter(sizes: list[int], *, is_recorded: bool) -> None:
    """However the samples are cut, the judgement is the same."""
    talker, _ = talkers()
    pcm = interleaved(*ONE_TALKER["a room on both"](talker[: 5 * RATE_HZ]))
    judge, at, found = LayoutJudge(is_recorded=is_recorded), 0, None
    while at < len(pcm) and found is None:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0] + 500
        found = judge.add(pcm[at : at + 4 * size])
        at += 4 * size
    assert (found or judge.judgement(is_all=True)) == judged(pcm, is_recorded=is_recorded)[0]


def test_judging_costs_little() -> None:
    """Judging takes at most 2 % of the audio's time, on one core."""
    talker, _ = talkers()
    pcm = interleaved(*ONE_TALKER["a room on both"](talker))
    begun = time.process_time()
    judged(pcm)
    assert time.process_time() - begun < 0.02 * len(pcm) / 4 / RATE_HZ


@pytest.mark.skipif(not MORE, reason="STENOLOG_SPEECH_MORE names no folder of more speech")
@pytest.mark.parametrize("names", [("jfk", "sonnet1"), ("ls1088", "ljB"), ("dig-george", "dig-lucas")])
def test_other_talkers(names: tuple[str, str]) -> None:
    """Other readers, rooms and digits are judged alike, except those that two seconds leave open (MEDIA-4)."""
    first, second = (_read(Path(MORE) / f"{name}.wav")[: 20 * RATE_HZ] for name in names)
    pairs = {(name, MIX): make(first) for name, make in ONE_TALKER.items()}
    pairs |= {(name, SPLIT): make(first, second) for name, make in TWO_TALKERS.items()}
    wrong = [
        (name, is_recorded)
        for (name, layout), pair in pairs.items()
        for is_recorded in (True, False)
        if judged(interleaved(*pair), is_recorded=is_recorded)[0].layout != layout
        and (is_recorded or name not in BORDERLINE)
    ]
    assert wrong == []


def _read(path: Path) -> Sound:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
