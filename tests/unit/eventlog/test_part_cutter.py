from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.archive.manifest import Part, find_missing
from eventlog.archive.part_cutter import PartCutter
from eventlog.codec import encode
from eventlog.events import SessionSealed
from eventlog.log import AudioEntry
from eventlog.positions import OPENED, SEALED, Position
from tests.support.archives import cut
from tests.support.pcm import Story, talk

LENGTH = 40_000
cuts = st.lists(st.integers(1, LENGTH - 1), max_size=12)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Sessions with holes and questions, of one channel or two."""
    edges = sorted(draw(st.sets(st.integers(0, LENGTH), max_size=4)))
    holes = tuple(zip(edges[::2], edges[1::2], strict=False))
    finalized = tuple(draw(st.lists(st.integers(0, LENGTH), max_size=4)))
    channels = draw(st.sampled_from([1, 2]))
    samples = talk(channels=channels)[:LENGTH]
    return Story(samples, finalized=finalized, holes=holes, has_hole_events=draw(st.booleans()))


def described(story: Story, part_samples: int, places: list[int]) -> list[object]:
    """The parts of a session, with all their content."""
    found: list[object] = []
    for one, pcm in cut(story.entries(places), part_samples, story.samples.shape[1]):
        found.append((one.number, one.start_samples, one.end_samples, one.spans, pcm, [line.id for line in one.events]))
    return found


@settings(max_examples=60, deadline=None)
@given(story=stories(), part_samples=st.sampled_from([7_000, 10_000, 40_000, 50_000]), places=cuts)
def test_parts_depend_on_the_audio_alone(story: Story, part_samples: int, places: list[int]) -> None:
    """REPLAY-3: the parts are the same, in samples, holes and events, for any chunks of the client."""
    assert described(story, part_samples, places) == described(story, part_samples, [])


@settings(max_examples=60, deadline=None)
@given(story=stories(), part_samples=st.sampled_from([7_000, 10_000, 40_000, 50_000]), places=cuts)
def test_parts_together_are_the_session(story: Story, part_samples: int, places: list[int]) -> None:
    """REPLAY-1: every sample and every event is in exactly one part, and missing audio is listed by its position."""
    entries = story.entries(places)
    parts = list(cut(entries, part_samples, story.samples.shape[1]))
    assert b"".join(pcm for _, pcm in parts) == b"".join(entry.pcm for entry in entries if entry.pcm)
    assert [line.id for one, _ in parts for line in one.events] == [
        str(entry.position) for entry in entries if entry.event is not None
    ]
    assert [one.start_samples for one, _ in parts] == [number * part_samples for number in range(len(parts))]
    assert parts[-1][0].end_samples == LENGTH
    noted = [
        Part(number=one.number, start_samples=one.start_samples, end_samples=one.end_samples, spans=tuple(one.spans))
        for one, _ in parts
    ]
    assert find_missing(noted) == tuple(hole for hole in story.holes if hole[0] < hole[1])


def test_a_hole_that_ends_at_a_cut_is_in_one_part() -> None:
    """REPLAY-1: the event of a hole that ends at a cut is in the part before it, and later events are in the next."""
    story = Story(talk()[:LENGTH], holes=((15_000, 20_000),), finalized=(20_000,))
    parts = list(cut(story.entries(), LENGTH // 2, 1))
    assert [[line.id for line in one.events] for one, _ in parts[:2]] == [["0-1", "20000-0"], ["20000-1"]]
    assert [one.spans for one, _ in parts[:2]] == [[(0, 15_000)], [(20_000, 40_000)]]


def test_a_session_that_ends_at_a_cut_has_one_more_part() -> None:
    """Whether more is to come isn't known at a cut, so the end stands in a part of its own there."""
    story = Story(talk()[:LENGTH], finalized=(LENGTH,))
    parts = list(cut(story.entries(), LENGTH // 2, 1))
    assert [(one.start_samples, one.end_samples, len(one.events)) for one, _ in parts] == [
        (0, 20_000, 1), (20_000, 40_000, 0), (40_000, 40_000, 2),
    ]  # fmt: skip


def test_a_session_without_audio_is_one_part() -> None:
    """A session that ended before any speech has its events and no samples, described or not."""
    start = AudioEntry(OPENED, None, encode(Story(talk()).start), 0)
    end = AudioEntry(SEALED, None, encode(SessionSealed(reason="idle", offset_samples=0)), 0)
    for channels in (0, 1):
        [(part, pcm)] = cut([start, end], 1_000, channels)
        assert (part.end_samples, pcm, len(part.events)) == (0, b"", 2)


def test_audio_freed_too_early_is_noticed() -> None:
    """Missing audio without a hole event counts as freed too early; audio with one does not."""
    declared = next(cut(Story(talk()[:LENGTH], holes=((5_000, 9_000),)).entries(), LENGTH * 2, 1))[0]
    assert (declared.has_missing_audio, declared.spans) == (False, [(0, 5_000), (9_000, LENGTH)])
    freed = PartCutter(0, LENGTH * 2, 1)
    freed.feed(AudioEntry(Position(9_000, 0), bytes(2_000), None, 0))
    assert (freed.has_missing_audio, freed.spans) == (True, [(8_000, 9_000)])
    at_the_end = PartCutter(0, LENGTH * 2, 1)
    at_the_end.feed(AudioEntry(SEALED, None, encode(SessionSealed(reason="stop", offset_samples=9)), 0))
    assert at_the_end.has_missing_audio
