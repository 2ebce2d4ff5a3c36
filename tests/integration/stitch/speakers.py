"""Speakers made up by Hypothesis: what each says, when it drops, how it ends."""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tests.support.pcm import Samples, talk

RATE_HZ = 8_000
MS_PER_FRAME = 100
FRAME_SAMPLES = RATE_HZ * MS_PER_FRAME // 1000


class Speaker(NamedTuple):
    """What one client does."""

    seed: int
    """Of the noise under the voice, which makes every word of the mock recogniser this session's own."""
    channels: int
    parts: tuple[tuple[str, int], ...]
    """(`speech` or `pause`, ms), (`finalize`, 0), (`drop`, 0): the last continues at the other replica."""
    stops: bool
    """Or leaves without a word, to be ended for being idle."""


parts = st.lists(
    st.one_of(
        st.tuples(st.just("speech"), st.sampled_from([300, 700, 1_100, 1_900])),
        st.tuples(st.just("pause"), st.sampled_from([200, 500, 1_200])),
        st.tuples(st.sampled_from(["finalize", "drop"]), st.just(0)),
    ),
    max_size=7,
).map(tuple)


def speakers(least: int = 1, most: int = 3) -> st.SearchStrategy[list[Speaker]]:
    """Some clients, no two with the same noise."""
    one = st.tuples(st.integers(1, 2), parts, st.booleans())
    return st.lists(one, min_size=least, max_size=most).map(
        lambda drawn: [Speaker(number, *values) for number, values in enumerate(drawn)]
    )


# Hypothesis may draw sessions without a word; these two speak for certain.
TALKATIVE = [
    Speaker(0, 1, (("speech", 1_900), ("pause", 500), ("speech", 1_100)), stops=True),
    Speaker(1, 2, (("speech", 700), ("finalize", 0), ("drop", 0), ("speech", 1_900), ("pause", 1_200)), stops=False),
]


@cache
def _voice() -> Samples:
    # The first sentence without the silence before it.
    return talk(RATE_HZ)[RATE_HZ // 2 :, 0]


def audio(speaker: Speaker) -> list[npt.NDArray[np.int16] | str]:
    """Frames of shape (samples, channels), with `finalize` and `drop` between them."""
    chance = np.random.default_rng(speaker.seed)
    found: list[npt.NDArray[np.int16] | str] = []
    place = 0
    for kind, duration_ms in speaker.parts:
        if kind in {"finalize", "drop"}:
            found.append(kind)
        for _ in range(0, duration_ms, MS_PER_FRAME):
            frame = chance.integers(-8, 9, (FRAME_SAMPLES, speaker.channels), np.int16)
            if kind == "speech":
                frame += _voice()[place : place + FRAME_SAMPLES, None]
                place = (place + FRAME_SAMPLES) % RATE_HZ
            found.append(frame)
    return found
