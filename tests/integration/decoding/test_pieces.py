"""The same bytes give the same samples, however they come."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.decoding.children import decoded
from tests.integration.decoding.recordings import NAMES, recording

SEVEN = "webm as recorded", "ogg", "mp4 in fragments", "mp4 with its index last", "mp3", "flac", "wav to a pipe"


@pytest.mark.parametrize("name", NAMES)
def test_decoding_twice_gives_the_same_samples(name: str) -> None:
    """Whole, in a recorder's small pieces or in odd ones, a recording's samples are the same to the last bit."""
    data = recording(name)
    whole = decoded(data)
    chance = random.Random(name)
    small = decoded(data[:40_000], cuts=range(0, 40_000, 97))
    alike = max(0, len(small.pcm) - 8_192)  # where it is cut, a codec's last words differ
    assert whole.pcm[:alike] == small.pcm[:alike]
    odd = decoded(data, cuts=[chance.randrange(len(data)) for _ in range(50)])
    assert (odd.status, odd.source, odd.pcm) == (whole.status, whole.source, whole.pcm)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(SEVEN), st.sampled_from((1, 2)), st.data())
def test_cuts_never_matter(name: str, channels: int, data: st.DataObject) -> None:
    """However a recording's bytes are cut on their way in, source and samples are equal."""
    recorded = recording(name, channels)
    cuts = data.draw(st.lists(st.integers(1, len(recorded) - 1), max_size=30) | st.just(list(range(1, 3_000))))
    whole, cut = decoded(recorded), decoded(recorded, cuts=cuts)
    assert (cut.status, cut.source, cut.pcm) == (whole.status, whole.source, whole.pcm)
