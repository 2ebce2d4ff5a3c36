import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.decoding.dual_mono import MAX_SAMPLES, WINDOW_SAMPLES, DualMonoDetector
from tests.integration.decoding.children import decoded
from tests.integration.decoding.recordings import FORMATS, encoded
from tests.support.pcm import Samples, talk
from tests.support.tree import ROOT

RATE_HZ = 16_000


def paired(left: Samples, right: Samples) -> bytes:
    """Two channels as interleaved samples."""
    return np.stack([left, right], axis=1).astype("<i2").tobytes()


def noise(seconds: float, level: float, seed: int = 1) -> Samples:
    """Sound of an amplitude."""
    samples = np.random.default_rng(seed).normal(0, level, int(seconds * RATE_HZ))
    return samples.clip(-32_768, 32_767).astype(np.int16)


@pytest.mark.parametrize("name", ["webm", "mp3", "mp4 in fragments", "flac", "wav of 16 bit"])
def test_one_microphone_on_two_channels_is_one_channel(name: str) -> None:
    """A stereo file of a single microphone gives one channel, whose samples are those of the mono file (LIVE-5)."""
    form = FORMATS[name]
    mono = talk(form.rate_hz, 1)
    found = decoded(encoded(np.repeat(mono, 2, axis=1), form))
    assert found.source is not None
    assert found.source.channels == 1
    alone = decoded(encoded(mono, form)).samples[:, 0].astype(float)
    both = found.samples[:, 0].astype(float)
    length = min(len(alone), len(both))
    assert np.corrcoef(alone[:length], both[:length])[0, 1] > 0.95


@pytest.mark.parametrize("ending", ["webm", "mp4"])
def test_a_browser_recording_is_one_channel(ending: str) -> None:
    """What MediaRecorder made of one microphone has one channel, though its file says two (LIVE-5)."""
    found = decoded((ROOT / f"tests/recordings/mediarecorder.{ending}").read_bytes())
    assert found.source is not None
    assert (found.status, found.source.channels) == (0, 1)


def test_channels_stay_apart_if_requested() -> None:
    """With two channels asked for even equal ones stay apart, and with one any are mixed."""
    data = encoded(np.repeat(talk(RATE_HZ, 1), 2, axis=1), FORMATS["wav of 16 bit"])
    counts = {option: decoded(data, "--channels", option).source for option in "012"}
    assert {option: source.channels for option, source in counts.items() if source} == {"0": 1, "1": 1, "2": 2}


def test_the_two_speakers_of_a_call_are_two() -> None:
    """Channels of which only one has sound, or that sound alike at different levels, are two."""
    sound = noise(2, 3000)
    for other in (sound * 0, (sound * 0.9).astype(np.int16), noise(2, 3000, seed=2)):
        assert DualMonoDetector().add(paired(sound, other)) is False


def test_coding_noise_makes_no_second_channel() -> None:
    """Channels that differ by what lossy coding adds, 50 dB below the sound, are one."""
    sound = noise(2, 3000)
    assert DualMonoDetector().add(paired(sound, sound + noise(2, 9, seed=3))) is True


def test_silence_is_waited_out_within_a_bound() -> None:
    """Nothing is said of silence until a minute has passed; then it is one channel."""
    detector = DualMonoDetector()
    second = bytes(4 * WINDOW_SAMPLES)
    said = [detector.add(second) for _ in range(MAX_SAMPLES // WINDOW_SAMPLES)]
    assert set(said[:-1]) == {None}
    assert said[-1] is True


@given(sizes=st.lists(st.integers(1, 20_000), max_size=8), same=st.booleans())
def test_pieces_never_matter(*, sizes: list[int], same: bool) -> None:
    """However the samples are cut, the answer is that of the same second."""
    left = np.concatenate([noise(0.3, 20), noise(1.5, 2000)])
    pcm = paired(left, left if same else left[::-1])
    detector, at = DualMonoDetector(), 0
    answers = []
    for size in [*sizes, len(pcm)]:
        answers.append(detector.add(pcm[at : at + 4 * size]))
        at += 4 * size
    assert [answer for answer in answers if answer is not None][:1] == [same]
