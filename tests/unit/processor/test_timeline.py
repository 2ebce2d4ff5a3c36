"""The timeline: the same decisions however the audio is cut, and from whichever checkpoint it is read."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.codec import UndecodableEventError
from eventlog.events import OptionsChanged, SessionSealed
from eventlog.log import AudioEntry, Checkpoint
from eventlog.positions import SEALED, Position
from processor.speech import Segmenter, Utterance
from processor.speech.options import options_in_force
from processor.timeline import Decision, Timeline
from tests.support.pcm import SETTINGS, Story, talk
from tests.unit.processor.strategies import RATES_HZ, cuts, sessions


class Seen(NamedTuple):
    """A decision without its cursor, which depends on where the chunks end."""

    boundaries: tuple[int, ...]
    channel: int
    utterance: Utterance | None
    hole: tuple[int, int] | None
    sealed: SessionSealed | None


def fed(timeline: Timeline, entries: Iterable[AudioEntry]) -> list[Decision]:
    """What a reader gets that asks for entries after the timeline's cursor."""
    return [decision for entry in entries if entry.position > timeline.cursor for decision in timeline.feed(entry)]


def seen(decisions: Iterable[Decision]) -> list[Seen]:
    """The decisions, to be compared."""
    return [Seen(one.boundaries, one.channel, one.utterance, one.hole, one.sealed) for one in decisions]


def whole(story: Story, at: Iterable[int] = ()) -> list[Decision]:
    """An undisturbed run."""
    return fed(Timeline(story.start, Checkpoint()), story.entries(at))


def resumed(story: Story, entries: Sequence[AudioEntry], decision: Decision) -> list[Decision]:
    """A run from the checkpoint that holds after `decision`."""
    checkpoint = Checkpoint(cursor=decision.cursor, boundaries=decision.boundaries, options=decision.options)
    return fed(Timeline(story.start, checkpoint), entries)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_decisions_do_not_depend_on_how_the_audio_is_cut(data: st.DataObject) -> None:
    """Any split of the same audio into entries gives the same boundaries, utterances, options, holes and end."""
    story = data.draw(sessions())
    assert seen(whole(story, data.draw(cuts(story)))) == seen(whole(story))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_checkpoint_leads_to_the_same_later_decisions(data: st.DataObject) -> None:
    """Restarted at any checkpoint, with holes, events and the end behind it, nothing changes (WORD-5, WORD-6)."""
    story = data.draw(sessions())
    entries = story.entries(data.draw(cuts(story)))
    expected = fed(Timeline(story.start, Checkpoint()), entries)
    for number, decision in enumerate(expected, 1):
        assert seen(resumed(story, entries, decision)) == seen(expected[number:])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_restart_upon_restart_changes_nothing(data: st.DataObject) -> None:
    """However many workers die one after the other, each after a decision or some, the decisions are the same."""
    story = data.draw(sessions())
    entries = story.entries(data.draw(cuts(story)))
    expected = fed(Timeline(story.start, Checkpoint()), entries)
    done: list[Decision] = []
    left = fed(Timeline(story.start, Checkpoint()), entries)
    while left:
        done += left[: data.draw(st.integers(1, len(left)))]
        left = resumed(story, entries, done[-1])
    assert seen(done) == seen(expected)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_decisions_come_by_position_then_channel(data: st.DataObject) -> None:
    """What the audio decides comes in the order of positions, and at the same position in that of the channels."""
    story = replace(data.draw(sessions(holes=False)), finalized=[], paused=[], sealed=False)
    order = [(one.boundaries[one.channel], one.channel) for one in whole(story, data.draw(cuts(story)))]
    assert order == sorted(order)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_events_come_after_the_audio_at_their_position(data: st.DataObject) -> None:
    """A finalize or the end, too, is decided in the order of positions, after what the audio before it decided."""
    story = data.draw(sessions(holes=False))
    decisions = [one for one in whole(story, data.draw(cuts(story))) if one.sealed is None]
    order = [one.boundaries[one.channel] for one in decisions]
    assert order == sorted(order)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_boundaries_and_cursor_never_go_back(data: st.DataObject) -> None:
    """No decision leads to a checkpoint behind an earlier one."""
    decisions = whole(story := data.draw(sessions()), data.draw(cuts(story)))
    for before, after in pairwise(decisions):
        assert before.cursor <= after.cursor
        assert all(one <= other for one, other in zip(before.boundaries, after.boundaries, strict=True))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_each_channel_is_segmented_as_if_it_were_alone(rate_hz: int, channels: int) -> None:
    """A channel's utterances are those of a segmenter that reads nothing else, with the exact samples."""
    story = Story(talk(rate_hz, channels), rate_hz)
    for channel in range(channels):
        alone = Segmenter(SETTINGS, rate_hz, options=options_in_force(story.start, SETTINGS.hangover_ms, None))
        boundaries = [*alone.feed(story.samples[:, channel].tobytes()), *alone.close()]
        expected = [one.utterance for one in boundaries if one.utterance]
        assert len(expected) > 3
        assert [
            one.utterance for one in whole(story, range(0, 10**6, 1_600)) if one.utterance and one.channel == channel
        ] == expected
        for one in expected:
            assert one.pcm == story.samples[one.start_samples : one.end_samples, channel].tobytes()


def test_a_finalize_makes_a_boundary_at_the_last_ten_milliseconds() -> None:
    """A finalize in the middle of a word ends the utterance there and then."""
    story = Story(talk(), finalized=[16_333], sealed=False)
    [decided] = [one for one in whole(story) if one.cursor == Position(16_333, 1)]
    assert decided.utterance is not None
    assert decided.boundaries == (16_320,)
    assert decided.utterance.decided_samples == 16_320


def test_a_finalize_is_taken_once() -> None:
    """A finalize at or before the checkpoint's cursor is not taken again, though its audio is read again."""
    story = Story(talk(), finalized=[16_333], sealed=False)
    entries = story.entries(range(0, 20_000, 1_600))
    number, decided = next(
        (number, one)
        for number, one in enumerate(whole(story, range(0, 20_000, 1_600)), 1)
        if one.cursor == Position(16_333, 1)
    )
    read_again = [one.position for one in entries if one.position > Position(decided.boundaries[0], 0)]
    assert decided.cursor in read_again
    assert seen(resumed(story, entries, decided)) == seen(whole(story)[number:])


def test_a_finalize_half_committed_is_taken_by_the_other_channel_alone() -> None:
    """After a crash between the two channels' decisions of one finalize, the second channel's comes, and only that."""
    story = Story(talk(16_000, 2), finalized=[33_333], sealed=False)
    entries = story.entries(range(0, 40_000, 1_600))
    decisions = fed(Timeline(story.start, Checkpoint()), entries)
    first = next(number for number, one in enumerate(decisions) if one.boundaries[0] == 33_280)
    assert decisions[first].cursor < Position(33_333, 1)
    assert decisions[first + 1].boundaries == (33_280, 33_280)
    assert decisions[first + 1].cursor == Position(33_333, 1)
    assert seen(resumed(story, entries, decisions[first])) == seen(decisions[first + 1 :])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_lies_behind_every_boundary_is_not_needed(data: st.DataObject) -> None:
    """A run continues alike from a checkpoint though every entry up to its earliest boundary is trimmed (WORD-6)."""
    story = data.draw(sessions(holes=False))
    entries = story.entries(data.draw(cuts(story)))
    decisions = fed(Timeline(story.start, Checkpoint()), entries)
    for number, decision in enumerate(decisions, 1):
        retained = [one for one in entries if one.position > Position(min(decision.boundaries), 0)]
        assert seen(resumed(story, retained, decision)) == seen(decisions[number:])


def test_a_pause_ends_the_open_utterance_there() -> None:
    """A client whose frames stop in the middle of a word has its utterance ended there, and only once (WORD-5)."""
    story = Story(talk(), paused=[16_333, 16_333], sealed=False)
    decisions = whole(story)
    [decided] = [one for one in decisions if one.cursor == Position(16_333, 1)]
    assert decided.utterance is not None
    assert decided.boundaries == (16_320,)
    assert not [one for one in decisions if one.cursor == Position(16_333, 2)]
    assert any(one.utterance for one in decisions if one.cursor > decided.cursor), "speech that follows is heard"


def test_changed_options_hold_from_the_next_boundary_on() -> None:
    """The open utterance keeps the options that it began with; all later ones have the changed ones (WORD-6)."""
    changed = OptionsChanged(language="de", terms=("Willoughby",), prompt="Barton")
    story = Story(talk(), changed=[(16_000, changed)])
    first, *later = [one.utterance for one in whole(story) if one.utterance]
    pinned = options_in_force(story.start, SETTINGS.hangover_ms, None)
    assert first.start_samples < 16_000 < first.end_samples
    assert first.options == pinned
    assert later
    assert {one.options for one in later} == {options_in_force(story.start, SETTINGS.hangover_ms, changed)}


@pytest.mark.parametrize("first_event", [0, 1])
def test_options_changed_beside_a_finalize_hold_for_what_follows(first_event: int) -> None:
    """A change just before a finalize, or just behind it, holds for the utterance after the finalize."""
    change = (16_333, OptionsChanged(language="de"))
    story = Story(talk(), finalized=[16_333], changed=[change], first_event=first_event)
    first, second, *_ = [one.utterance for one in whole(story) if one.utterance]
    assert first.end_samples <= 16_333
    assert [first.options and first.options.language, second.options and second.options.language] == ["en", "de"]


def test_options_changed_between_a_hole_and_its_boundary_are_not_lost() -> None:
    """A change within the 10 ms between the end of a hole and its boundary holds after a takeover there too."""
    story = Story(talk(), holes=[(20_005, 30_007)], changed=[(30_050, OptionsChanged(language="de"))])
    entries = story.entries()
    decisions = fed(Timeline(story.start, Checkpoint()), entries)
    number = next(number for number, one in enumerate(decisions, 1) if one.hole)
    later = [one.utterance.options for one in decisions[number:] if one.utterance]
    languages = [options.language for options in later if options]
    assert languages
    assert set(languages) == {"de"}
    assert seen(resumed(story, entries, decisions[number - 1])) == seen(decisions[number:])


def test_a_changed_pause_cuts_from_the_next_boundary_on() -> None:
    """A shorter pause ends utterances as one that was pinned so, from the first boundary behind the change on."""
    change = OptionsChanged(hangover_ms=90)
    decisions = whole(Story(talk(), changed=[(8_000, change)], sealed=False))
    first = next(one for one in decisions if one.utterance)
    unchanged = whole(Story(talk(), sealed=False))
    assert first.boundaries == next(one for one in unchanged if one.utterance).boundaries
    pinned = Segmenter(SETTINGS, 16_000, first.boundaries[0], options_in_force(Story(talk()).start, 300, change))
    expected = pinned.feed(talk()[first.boundaries[0] :, 0].tobytes())
    assert [one.utterance for one in decisions[decisions.index(first) + 1 :]] == [one.utterance for one in expected]
    assert seen(decisions) != seen(unchanged)


@pytest.mark.parametrize("has_hole_events", [True, False])
def test_a_hole_is_a_boundary_and_a_decision(has_hole_events: bool) -> None:  # noqa: FBT001
    """Missing audio ends the utterance before it and is decided with its exact bounds, with an event or without."""
    story = Story(talk(), holes=[(20_005, 30_007)], has_hole_events=has_hole_events, sealed=False)
    decisions = whole(story)
    number = next(number for number, one in enumerate(decisions) if one.hole)
    hole, cut_off = decisions[number], decisions[number - 1]
    assert hole.hole == (20_005, 30_007)
    assert hole.boundaries == (30_080,), "the next ten milliseconds from there"
    assert cut_off.utterance is not None
    assert cut_off.utterance.end_samples <= 20_005
    assert all(one.utterance is None or one.utterance.start_samples >= 30_080 for one in decisions[number:])


def test_a_hole_before_the_end_is_reported() -> None:
    """Audio that the seal counts and the log lacks is a hole too, and the session still ends."""
    story = Story(talk(), holes=[(20_000, len(talk()))], has_hole_events=False)
    *_, hole, end = whole(story)
    assert hole.hole == (20_000, len(talk()))
    assert end.sealed is not None
    assert end.cursor == SEALED


def test_trimmed_audio_is_reported_as_a_hole() -> None:
    """A run whose first audio was trimmed begins with a hole and continues after it."""
    story = Story(talk())
    entries = [one for one in story.entries(range(0, 200_000, 1_600)) if one.position > Position(40_000, 0)]
    first, *others = fed(Timeline(story.start, Checkpoint()), entries)
    assert first.hole == (0, 40_000)
    assert any(one.utterance for one in others)


def test_audio_trimmed_behind_every_boundary_is_not_missed() -> None:
    """A checkpoint's run needs no entry before its earliest boundary."""
    story = Story(talk(16_000, 2))
    entries = story.entries(range(0, 200_000, 1_600))
    decisions = fed(Timeline(story.start, Checkpoint()), entries)
    middle = decisions[len(decisions) // 2]
    retained = [one for one in entries if one.position > Position(min(middle.boundaries), 0)]
    assert seen(resumed(story, retained, middle)) == seen(decisions[len(decisions) // 2 + 1 :])
    assert middle.boundaries[0] != middle.boundaries[1]


def test_silence_alone_moves_the_checkpoint() -> None:
    """Long silence has boundaries of its own, so a restart doesn't read all of it again."""
    story = Story(np.zeros((16_000 * 5, 1), np.int16), sealed=False)
    assert [one.boundaries for one in whole(story)] == [(16_320 * count,) for count in range(1, 5)]


def test_an_open_utterance_is_reported_per_channel() -> None:
    """The open utterance so far is there for partials, by channel."""
    story = Story(talk(16_000, 2)[:16_000], sealed=False)
    timeline = Timeline(story.start, Checkpoint())
    fed(timeline, story.entries())
    [(channel, opened)] = timeline.open_utterances()
    assert channel == 0
    assert opened.pcm == story.samples[opened.start_samples : opened.end_samples, 0].tobytes()


@pytest.mark.parametrize("event", [b"", b"not JSON", b'{"event":"unheard_of.v9"}'])
def test_an_undecodable_event_is_an_error(event: bytes) -> None:
    """A control event that this build doesn't know is refused, not skipped."""
    timeline = Timeline(Story(talk()).start, Checkpoint())
    with pytest.raises(UndecodableEventError):
        timeline.feed(AudioEntry(Position(0, 2), None, event, 0))


def test_pinned_settings_of_another_build_are_an_error() -> None:
    """A session pinned to a segmenter version that isn't here is refused (OPS-1)."""
    story = Story(talk(), segmenter={"version": 999})
    with pytest.raises(ValueError, match="version"):
        Timeline(story.start, Checkpoint())
