import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.archive.flac import FRAME_SAMPLES, FlacEncoder, decode_flac
from eventlog.archive.manifest import DamagedArchiveError

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000)


def encoded(pcm: bytes, rate_hz: int, channels: int, cuts: list[int]) -> bytes:
    """The file of these samples, encoded in pieces."""
    encoder = FlacEncoder(rate_hz, channels)
    for first, last in itertools.pairwise([0, *sorted(cuts), len(pcm)]):
        encoder.add(pcm[first:last])
    return encoder.finish()


@settings(max_examples=60, deadline=None)
@given(
    rate_hz=st.sampled_from(RATES), channels=st.sampled_from([1, 2]), seed=st.integers(0, 2**32 - 1),
    samples=st.one_of(st.integers(1, 3), st.integers(FRAME_SAMPLES - 1, FRAME_SAMPLES + 1), st.integers(1, 20_000)),
    cuts=st.lists(st.floats(0, 1), max_size=8), loudness=st.sampled_from([0, 1, 300, 32_767]),
)  # fmt: skip
def test_pcm_survives_flac(
    *, rate_hz: int, channels: int, seed: int, samples: int, cuts: list[float], loudness: int
) -> None:
    """REPLAY-3: at any rate, channels and portions the samples are the same to the bit, and so is the file."""
    noise = np.random.default_rng(seed).integers(-loudness - 1, loudness, (samples, channels), endpoint=True)
    pcm = np.clip(noise, -32_768, 32_767).astype("<i2").tobytes()
    places = [int(cut * samples) * 2 * channels for cut in cuts]
    file = encoded(pcm, rate_hz, channels, places)
    assert b"".join(decode_flac(file)) == pcm
    assert file == encoded(pcm, rate_hz, channels, [])


def test_no_samples_make_no_file() -> None:
    """A part without audio has no file."""
    assert FlacEncoder(16_000, 1).finish() == b""


@pytest.mark.parametrize("file", [b"", b"fLaC", b"RIFF" * 100, encoded(bytes(80_000), 16_000, 1, [])[:40]])
def test_other_bytes_than_flac_are_damage(file: bytes) -> None:
    """Bytes that are no FLAC file raise the damage error, and give no silence."""
    with pytest.raises(DamagedArchiveError):
        list(decode_flac(file))
