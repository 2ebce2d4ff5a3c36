"""Hypothesis strategies for sessions and for the pieces in which their audio comes."""

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.support.pcm import Story, talk

RATES_HZ = (8_000, 16_000, 44_100)


@st.composite
def sessions(draw: st.DrawFn, *, holes: bool = True) -> Story:
    """Sessions at any rate, mono or stereo, with finalize events, holes and an end anywhere."""
    rate_hz = draw(st.sampled_from(RATES_HZ))
    whole = talk(rate_hz, draw(st.sampled_from((1, 2))))
    length = draw(st.integers(rate_hz, len(whole)))
    offset = st.integers(0, length)
    missing = draw(st.lists(st.tuples(offset, offset), max_size=2)) if holes else []
    apart = _apart([(min(pair), min(max(pair), min(pair) + 2 * rate_hz)) for pair in missing])
    requests = draw(st.lists(offset, max_size=3))
    return Story(
        samples=whole[:length],
        sample_rate_hz=rate_hz,
        finalized=[one for one in requests if not any(start < one <= end for start, end in apart)],
        holes=apart,
        has_hole_events=draw(st.booleans()),
        sealed=draw(st.booleans()),
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
