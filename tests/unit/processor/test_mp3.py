"""The length that an MP3 states at its beginning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.decoding.containers import mp3_duration_s
from tests.integration.decoding.recordings import Format, encoded
from tests.support.pcm import talk


def stated_s(data: bytes) -> float:
    """The length by the beginning of a file."""
    return mp3_duration_s(lambda count: data[:count])


def tag(size: int) -> bytes:
    """An ID3v2.4 tag with so many bytes of content."""
    return b"ID3\x04\x00\x00" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 32_000, 44_100, 48_000])
def test_an_mp3_states_its_length(rate_hz: int, channels: int) -> None:
    """Of an MP3 of any rate, mono or stereo, the length is known before anything is decoded (STATUS-3)."""
    samples = talk(rate_hz, channels)
    data = encoded(samples, Format("mp3", "libmp3lame", rate_hz))
    assert stated_s(data) == pytest.approx(len(samples) / rate_hz, abs=0.3)
    bare = data[data.index(b"\xff", 10) :]
    for tags in ([], [300], [70_000], [10, 20]):
        assert stated_s(b"".join(map(tag, tags)) + bare) == stated_s(data)


def test_an_mp3_sent_while_it_is_recorded_states_no_length() -> None:
    """Without a first frame that counts them, or with a tag beyond any bound, the length is unknown."""
    data = encoded(talk(16_000, 1), Format("mp3", "libmp3lame", 16_000, (("write_xing", "0"),), to_pipe=True))
    assert stated_s(data) == 0
    assert stated_s(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + data) == 0


def test_an_older_encoder_s_count_is_read() -> None:
    """A header as Fraunhofer's encoder writes it is read as well."""
    frame = b"\xff\xfb\x90\x00" + bytes(32) + b"VBRI" + bytes(10) + (1000).to_bytes(4) + bytes(60)
    assert stated_s(frame) == pytest.approx(1000 * 1152 / 44_100)


@given(data=st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"\xff\xfb\x90\x00" + rest))
def test_noise_breaks_nothing(data: bytes) -> None:
    """Any bytes give a length of at least 0."""
    assert stated_s(data) >= 0
    assert stated_s(b"ID3" + data) >= 0
