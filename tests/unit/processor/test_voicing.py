import numpy as np
import pytest

from processor.speech.features import RECOGNISER_RATE_HZ, Floats
from processor.speech.voicing import voicing

RATE_HZ = RECOGNISER_RATE_HZ


def bursts(*spans_s: tuple[float, float], seconds: float = 4.0, noise: float = 0.0) -> Floats:
    """Return noise bursts at those times over fainter noise."""
    random = np.random.default_rng(1)
    samples = random.standard_normal(int(seconds * RATE_HZ)) * noise
    for start_s, end_s in spans_s:
        first, last = int(start_s * RATE_HZ), int(end_s * RATE_HZ)
        samples[first:last] += 0.1 * random.standard_normal(last - first)
    return samples.astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.01])
def test_stretches_begin_and_end_with_the_voice(noise: float) -> None:
    """Loud stretches are found to the frame, over silence and over noise 20 dB below them."""
    found = voicing(bursts((0.5, 1.2), (2.0, 3.1), noise=noise))
    assert found.starts_s == pytest.approx([0.5, 2.0], abs=0.011)
    assert found.ends_s == pytest.approx([1.2, 3.1], abs=0.011)
    assert (found.start_s, found.end_s) == (found.starts_s[0], found.ends_s[-1])


def test_clicks_and_closures_are_neither_voice_nor_pause() -> None:
    """A sound of 20 ms is no voice, and a pause of 80 ms ends none."""
    found = voicing(bursts((0.2, 0.22), (1.0, 1.5), (1.58, 2.0)))
    assert found.starts_s == pytest.approx([1.0], abs=0.011)
    assert found.ends_s == pytest.approx([2.0], abs=0.011)


def test_voiced_time_is_counted_between_any_times() -> None:
    """The voiced seconds between two times are those of the stretches' parts between them."""
    found = voicing(bursts((0.5, 1.0), (2.0, 3.0)))
    assert found.between(0.75, 2.5) == pytest.approx(0.75, abs=0.03)
    assert found.between(1.1, 1.9) == 0


def test_short_pauses_join_stretches() -> None:
    """Stretches that are no pause apart are one; without any voice none is there to join."""
    found = voicing(bursts((0.5, 1.0), (1.15, 1.5), (2.5, 3.0)))
    assert len(found.starts_s) == 3
    starts_s, ends_s = found.joined(0.2)
    assert starts_s == pytest.approx([0.5, 2.5], abs=0.011)
    assert ends_s == pytest.approx([1.5, 3.0], abs=0.011)
    assert len(voicing(np.zeros(0, np.float32)).joined(0.2)[0]) == 0
