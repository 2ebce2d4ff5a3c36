from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.speech import SAMPLE_RATES_HZ, Boundary, Segmenter, SegmenterSettings
from tests.unit.processor.speech_audio import RATE_HZ, conversation, noise, sentence, silence

CONVERSATION = conversation()
QUICK = SegmenterSettings(soft_cut_ms=2_000, hard_cut_ms=3_000, silence_ms=1_000, hangover_ms=300)


def whole(audio: bytes, options: SegmenterSettings, rate_hz: int = RATE_HZ, start: int = 0) -> list[Boundary]:
    """Return the boundaries of audio fed in one piece, from a position on."""
    segmenter = Segmenter(options, rate_hz, start)
    return segmenter.feed(audio[2 * start :]) + segmenter.close()


def in_pieces(audio: bytes, cuts: list[int], options: SegmenterSettings) -> list[Boundary]:
    """Return the boundaries of audio that is cut at these samples."""
    segmenter = Segmenter(options, RATE_HZ)
    edges = [0, *sorted(2 * min(cut, len(audio) // 2) for cut in cuts), len(audio)]
    boundaries = [found for start, end in pairwise(edges) for found in segmenter.feed(audio[start:end])]
    return boundaries + segmenter.close()


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_each_sentence_of_a_conversation_is_one_utterance(rate_hz: int) -> None:
    """Five sentences with pauses are five utterances at every sample rate."""
    utterances = [found.utterance for found in whole(conversation(rate_hz), SegmenterSettings(), rate_hz)]
    assert len([utterance for utterance in utterances if utterance]) == 5


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, len(CONVERSATION) // 2), max_size=40))
@pytest.mark.parametrize("options", [SegmenterSettings(), QUICK], ids=["default", "quick"])
def test_pieces_do_not_matter(options: SegmenterSettings, cuts: list[int]) -> None:
    """However audio is split into calls, the boundaries and their samples are the same."""
    assert in_pieces(CONVERSATION, cuts, options) == whole(CONVERSATION, options)


@pytest.mark.parametrize("size", [1, 7, 160, 479, 480, 481])
def test_tiny_pieces_do_not_matter(size: int) -> None:
    """Audio fed a few samples at a time has the boundaries of the whole."""
    audio = silence(0.4) + sentence(1) + silence(1)
    assert in_pieces(audio, list(range(0, len(audio) // 2, size)), QUICK) == whole(audio, QUICK)


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
@pytest.mark.parametrize("options", [SegmenterSettings(), QUICK], ids=["default", "quick"])
def test_restart_at_any_boundary_gives_the_same_later_ones(options: SegmenterSettings, rate_hz: int) -> None:
    """A restart at any boundary gives the same later boundaries to the sample (REPLAY-3)."""
    audio = conversation(rate_hz)
    boundaries = whole(audio, options, rate_hz)
    for index, boundary in enumerate(boundaries[:-1]):
        assert whole(audio, options, rate_hz, boundary.position_samples) == boundaries[index + 1 :]


@settings(max_examples=40, deadline=None)
@given(flushed_at=st.integers(0, len(CONVERSATION) // 2), after=st.integers(0, RATE_HZ))
def test_restart_at_a_flush_or_behind_a_hole_gives_the_same_later_ones(flushed_at: int, after: int) -> None:
    """Boundaries set by finalize and by holes can be restarted from like any other."""
    segmenter = Segmenter(QUICK, RATE_HZ)
    segmenter.feed(CONVERSATION[: 2 * flushed_at])
    segmenter.flush()
    restarted = Segmenter(QUICK, RATE_HZ, segmenter.boundary_samples)
    restarted.feed(CONVERSATION[2 * restarted.boundary_samples : 2 * flushed_at])
    for one in (segmenter, restarted):
        one.skip_to(flushed_at + after)
    rest = CONVERSATION[2 * (flushed_at + after) :]
    later = segmenter.feed(rest) + segmenter.close()
    assert restarted.feed(rest) + restarted.close() == later
    behind = Segmenter(QUICK, RATE_HZ, -(-(flushed_at + after) // 160) * 160)
    assert behind.feed(CONVERSATION[2 * behind.position_samples :]) + behind.close() == later


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_boundaries_lie_on_the_grid_and_utterances_between_them(rate_hz: int) -> None:
    """Boundaries are multiples of 10 ms, and no pre-roll reaches over one."""
    audio, last = conversation(rate_hz), 0
    for boundary in whole(audio, QUICK, rate_hz):
        assert boundary.position_samples % (rate_hz // 100) == 0
        if utterance := boundary.utterance:
            assert last <= utterance.start_samples < utterance.end_samples <= utterance.decided_samples
            assert utterance.pcm == audio[2 * utterance.start_samples : 2 * utterance.end_samples]
        last = boundary.position_samples


def test_an_utterance_is_decided_a_hangover_after_its_last_voiced_frame() -> None:
    """The end of an utterance is known one hang-over after speech ends."""
    options = SegmenterSettings(hangover_ms=600, postroll_ms=0)
    [first, *_] = whole(sentence(1) + silence(2), options)
    assert first.utterance is not None
    assert first.utterance.decided_samples - first.utterance.end_samples == RATE_HZ * 600 // 1000


def test_speech_without_a_pause_is_cut() -> None:
    """An utterance without a pause ends at the hard cut, one with a short pause at the soft cut."""
    boundaries = whole(noise(9, level=0.3), QUICK)
    lengths = [found.utterance.end_samples - found.utterance.start_samples for found in boundaries if found.utterance]
    assert lengths[:2] == [3 * RATE_HZ, 3 * RATE_HZ]
    spoken = [found.utterance for found in whole(CONVERSATION, QUICK) if found.utterance]
    assert any(2.0 <= (each.end_samples - each.start_samples) / RATE_HZ < 3.0 for each in spoken)


def test_silence_sets_boundaries_without_utterance() -> None:
    """Long silence sets a boundary at a fixed distance, so that a restart rereads little."""
    boundaries = whole(silence(35), SegmenterSettings())
    assert [found.position_samples / RATE_HZ for found in boundaries] == [10.02, 20.04, 30.06, 35.0]
    assert all(found.utterance is None for found in boundaries)


def test_steady_noise_is_not_mistaken_for_speech() -> None:
    """A detector that starts afresh in faint noise opens no utterance."""
    assert all(found.utterance is None for found in whole(noise(30, level=0.003), SegmenterSettings()))


def test_speech_at_a_boundary_is_kept_whole() -> None:
    """Speech that continues over a boundary is caught from the boundary on."""
    spoken = sentence(0)[2 * RATE_HZ :]
    [first, *_] = whole(spoken + silence(1), SegmenterSettings())
    assert first.utterance is not None
    assert first.utterance.start_samples == 0


def test_flush_decides_now_and_keeps_the_rest() -> None:
    """A finalize sets a boundary at the last 10 ms, and a second one at once sets none."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    segmenter.feed(sentence(0)[: 2 * (RATE_HZ + 77)])
    [boundary] = segmenter.flush()
    assert (boundary.position_samples, segmenter.position_samples) == (RATE_HZ, RATE_HZ + 77)
    assert boundary.utterance is not None
    assert boundary.utterance.decided_samples == RATE_HZ
    assert segmenter.flush() == []


def test_a_hole_decides_what_is_open_and_restarts_behind_it() -> None:
    """A hole ends the open utterance at its start, and the next boundary is the first 10 ms behind it."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    segmenter.feed(sentence(0)[: 2 * RATE_HZ])
    before, behind = segmenter.skip_to(3 * RATE_HZ + 1)
    assert before.utterance is not None
    assert (before.position_samples, before.utterance.end_samples) == (RATE_HZ, RATE_HZ)
    assert behind == Boundary(3 * RATE_HZ + 160, None)
    assert segmenter.position_samples == 3 * RATE_HZ + 1
    assert segmenter.boundary_samples == 3 * RATE_HZ + 160


def test_the_open_utterance_is_a_snapshot() -> None:
    """The utterance so far can be looked at without deciding anything."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    assert segmenter.open_utterance() is None
    segmenter.feed(sentence(0)[: 4 * RATE_HZ])
    opened = segmenter.open_utterance()
    assert opened is not None
    assert opened.pcm == sentence(0)[2 * opened.start_samples : 2 * opened.end_samples]
    assert segmenter.feed(sentence(0)[4 * RATE_HZ :]) + segmenter.close() == whole(sentence(0), SegmenterSettings())


def test_an_open_utterance_knows_its_pauses() -> None:
    """An open utterance has where voice came back after each pause of 240 ms, and how long the last one lasts."""
    segmenter, rest = Segmenter(SegmenterSettings(), RATE_HZ), RATE_HZ * 4 // 10
    gaps = silence(0.4)
    segmenter.feed(sentence(0) + gaps + sentence(1) + gaps + sentence(2)[:RATE_HZ])
    opened = segmenter.open_utterance()
    assert opened is not None
    joins = [len(sentence(0)) // 2 + rest, len(sentence(0) + sentence(1)) // 2 + 2 * rest]
    near = [[at for at in opened.short_pauses_samples if join <= at < join + RATE_HZ // 2] for join in joins]
    assert [len(found) for found in near] == [1, 1]
    assert list(opened.short_pauses_samples) == sorted(opened.short_pauses_samples)
    assert all(opened.start_samples < at < opened.decided_samples for at in opened.short_pauses_samples)
    paused_ms = []
    for seconds in (0.3, 0.15):
        segmenter.feed(silence(seconds))
        paused = segmenter.open_utterance()
        assert paused is not None
        assert paused.short_pauses_samples == opened.short_pauses_samples
        paused_ms.append(paused.pause_ms)
    assert paused_ms[1] - paused_ms[0] == 150
    segmenter.feed(silence(1))
    assert segmenter.open_utterance() is None


def test_the_start_of_an_open_utterance_is_known_as_soon_as_it_opens() -> None:
    """The start of speech is known while an utterance is open, and only then."""
    segmenter, starts = Segmenter(SegmenterSettings(), RATE_HZ), list[int | None]()
    for audio in (silence(1), sentence(0)[:RATE_HZ]):
        segmenter.feed(audio)
        starts.append(segmenter.speech_start_samples)
    [boundary] = segmenter.flush()
    assert boundary.utterance is not None
    assert [*starts, segmenter.speech_start_samples] == [None, boundary.utterance.start_samples, None]


def test_silence_is_not_hoarded() -> None:
    """Between utterances no more audio is kept than a pre-roll can reach."""
    segmenter = Segmenter(SegmenterSettings(silence_ms=60_000), RATE_HZ)
    segmenter.feed(silence(50))
    assert len(segmenter._audio) < 2 * RATE_HZ


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"vad_mode": 4}, "vad_mode"),
        ({"version": 2}, "version"),
        ({"hangover_ms": 0}, "hangover_ms"),
        ({"preroll_ms": -1}, "preroll_ms"),
        ({"trigger_voiced_ms": 300}, "trigger_voiced_ms"),
        ({"soft_cut_ms": 30_000}, "soft_cut_ms"),
        ({"hard_cut_ms": 500, "soft_cut_ms": 500}, "hard_cut_ms"),
        ({"silence_ms": 10}, "silence_ms"),
    ],
)
def test_bad_settings_are_refused_by_name(wrong: dict[str, int], named: str) -> None:
    """A setting that the segmenter could not honour is refused with its name."""
    with pytest.raises(ValueError, match=named):
        SegmenterSettings(**wrong)


def test_bad_input_is_refused() -> None:
    """Half samples, unknown rates, starts off the grid and holes backwards are errors."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ, RATE_HZ)
    with pytest.raises(ValueError, match="whole 16-bit samples"):
        segmenter.feed(b"\0")
    with pytest.raises(ValueError, match="hole"):
        segmenter.skip_to(RATE_HZ - 160)
    with pytest.raises(ValueError, match="sample rate"):
        Segmenter(SegmenterSettings(), 11_025)
    with pytest.raises(ValueError, match="multiple of 10 ms"):
        Segmenter(SegmenterSettings(), RATE_HZ, 81)
