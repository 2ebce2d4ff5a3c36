"""Hypothesis strategies for sessions and for the pieces in which their audio comes."""

from collections.abc import Sequence

from hypothesis import strategies as st

from eventlog.events import OptionsChanged
from tests.support.pcm import Story, talk

RATES_HZ = (8_000, 16_000, 44_100)


@st.composite
def sessions(draw: st.DrawFn, *, holes: bool = True) -> Story:
    """Sessions at any rate, mono or stereo, with control events of all kinds, holes and an end anywhere."""
    rate_hz = draw(st.sampled_from(RATES_HZ))
    whole = talk(rate_hz, draw(st.sampled_from((1, 2))))
    length = draw(st.integers(rate_hz, len(whole)))
    offset = st.integers(0, length)
    missing = draw(st.lists(st.tuples(offset, offset), max_size=2)) if holes else []
    apart = _apart([(min(pair), min(max(pair), min(pair) + 2 * rate_hz)) for pair in missing])
    requests, pauses = draw(st.lists(offset, max_size=3)), draw(st.lists(offset, max_size=3))
    changed = draw(st.lists(st.tuples(offset, changes()), max_size=4))

    def is_heard(at: int) -> bool:
        return not any(start < at <= end for start, end in apart)

    return Story(
        samples=whole[:length],
        sample_rate_hz=rate_hz,
        finalized=[one for one in requests if is_heard(one)],
        paused=[one for one in pauses if is_heard(one)],
        changed=[one for one in changed if is_heard(one[0])],
        first_event=draw(st.integers(0, 3)),
        holes=apart,
        has_hole_events=draw(st.booleans()),
        sealed=draw(st.booleans()),
    )


def changes() -> st.SearchStrategy[OptionsChanged]:
    """Changes of some of a session's options."""
    return st.builds(
        OptionsChanged,
        language=st.sampled_from((None, "de", "fr")),
        terms=st.sampled_from((None, (), ("Willoughby",))),
        hangover_ms=st.sampled_from((None, 150, 600)),
    )


@st.composite
def cuts(draw: st.DrawFn, story: Story) -> list[int]:
    """Chunk ends: none, every few milliseconds, or anywhere."""
    length = len(story.samples)
    step = draw(st.sampled_from((0, 37, 160, 441, 1_600, 4_410)))
    if step:
        return list(range(draw(st.integers(1, step)), length, step))
    return draw(st.lists(st.integers(1, length), max_size=40))


def _apart(holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(holes):
        if start < end and (not found or found[-1][1] < start):
            found.append((start, end))
    return found
