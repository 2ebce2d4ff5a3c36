"""Recordings of every kind become the same 16-bit samples."""

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenolog.client.audio_file import AudioFile, AudioFileError
from tests.support.tree import ROOT
from tests.unit.stenolog.wavs import encoded, riff, tone, wav

ENCODINGS = ["u8", "i16", "i24", "i32", "f32", "f64"]
RECORDINGS = ROOT / "tests/recordings"


class Dripping(io.RawIOBase):
    """A pipe that gives a few bytes at a time and can't seek."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = data
        self._sizes = sizes

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, often fewer."""
        step = min(self._sizes.pop() if self._sizes else 4096, size)
        taken, self._data = self._data[:step], self._data[step:]
        return taken


class Failing(io.RawIOBase):
    """A source that fails with an error after its first bytes."""

    def __init__(self, data: bytes, error: BaseException) -> None:
        self._data = data
        self._error = error

    def read(self, size: int = -1) -> bytes:
        """Return the first bytes, then raise the error."""
        if not self._data:
            raise self._error
        taken, self._data = self._data[:size], self._data[size:]
        return taken


def piped(data: bytes) -> AudioFile:
    """The recording as a pipe gives it."""
    return AudioFile(Dripping(data, []))  # type: ignore[arg-type]


def samples(data: bytes, *, split_channels: bool = False) -> np.ndarray:
    """The samples of a recording, as fractions of full scale."""
    audio = AudioFile(io.BytesIO(data), split_channels=split_channels)
    pcm = b"".join(audio.blocks())
    return np.frombuffer(pcm, "<i2").reshape(-1, audio.channels).astype(float) / 32768


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_samples_that_were_written(encoding: str) -> None:
    """Each encoding of a tone gives that tone, within a step of its own resolution."""
    found = samples(wav(16_000, encoding))
    assert np.abs(found - tone(16_000)).max() < (0.02 if encoding == "u8" else 0.0005)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_a_rate_that_sessions_take_is_kept(rate_hz: int) -> None:
    """A supported rate is streamed unchanged."""
    audio = AudioFile(io.BytesIO(wav(rate_hz)))
    assert (audio.sample_rate_hz, audio.duration_s) == (rate_hz, 0.5)
    assert sum(map(len, audio.blocks())) == 2 * int(rate_hz * 0.5)


@pytest.mark.parametrize("rate_hz", [11_025, 22_050, 32_000, 96_000])
def test_another_rate_becomes_16_khz(rate_hz: int) -> None:
    """A rate that sessions don't take is resampled, with the tone and the length kept."""
    data = wav(rate_hz, seconds=2.0)
    assert AudioFile(io.BytesIO(data)).sample_rate_hz == 16_000
    found = samples(data)[:, 0]
    assert abs(len(found) - 32_000) <= 2
    spectrum = np.abs(np.fft.rfft(found))
    assert abs(np.argmax(spectrum) * 16_000 / len(found) - 440) < 2
    assert np.abs(found[4000:-4000]).max() == pytest.approx(0.5, abs=0.01)


def test_stereo_is_mixed_unless_the_channels_are_asked_for() -> None:
    """Two channels become one, their mean, or stay apart on demand."""
    data = wav(16_000, "i16", channels=2)
    assert np.abs(samples(data)[:, 0] - tone(16_000)[:, 0] / 2).max() < 0.0005
    apart = samples(data, split_channels=True)
    assert apart.shape[1] == 2
    assert not apart[:, 1].any()


def test_of_many_channels_the_first_two_are_split_and_all_are_mixed() -> None:
    """Four channels become their mean, or on demand the first two of them."""
    data = wav(16_000, "i16", channels=4)
    assert np.abs(samples(data)[:, 0] - tone(16_000)[:, 0] / 4).max() < 0.0005
    assert np.abs(samples(data, split_channels=True) - tone(16_000, channels=2)).max() < 0.0005


@pytest.mark.parametrize(("kind", "loud", "full_scale"), [(6, 0xAA, 32_256), (7, 0x80, 32_124)])
def test_telephone_encodings_are_those_of_g711(kind: int, loud: int, full_scale: int) -> None:
    """The loudest code of A-law and of µ-law is G.711's largest value."""
    [[found]] = samples(riff(kind, 8, 8_000, 1, bytes([loud])))
    assert found * 32768 == full_scale


def test_the_extensible_header_names_the_real_encoding() -> None:
    """WAVE_FORMAT_EXTENSIBLE is read by its sub-format."""
    _, bits, data = encoded(tone(16_000), "f32")
    sub_format = struct.pack("<HHI", 22, 32, 0) + bytes.fromhex("03000000000010008000 00aa00389b71")
    described = struct.pack("<HHIIHH", 0xFFFE, 1, 16_000, 64_000, 4, bits) + sub_format
    body = b"fmt " + struct.pack("<I", len(described)) + described + b"data" + struct.pack("<I", len(data)) + data
    found = samples(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    assert np.abs(found - tone(16_000)).max() < 0.0005


@given(st.lists(st.integers(1, 3000), max_size=60), st.integers(10, 500), st.sampled_from(ENCODINGS))
def test_the_pieces_in_which_a_pipe_gives_it_make_no_difference(
    sizes: list[int], block_ms: int, encoding: str
) -> None:
    """A file read in any pieces and cut into any blocks gives the same samples."""
    data = wav(16_000, encoding, seconds=0.2)
    dripped = AudioFile(Dripping(data, sizes)).blocks(block_ms)  # type: ignore[arg-type]
    assert b"".join(dripped) == b"".join(AudioFile(io.BytesIO(data)).blocks())


@pytest.mark.parametrize("name", ["mediarecorder.webm", "mediarecorder.mp4"])
@pytest.mark.parametrize("opened", [lambda data: AudioFile(io.BytesIO(data)), piped])
def test_containers_are_read_from_files_and_pipes(name: str, opened: Callable[[bytes], AudioFile]) -> None:
    """A browser's recording is decoded to 16 kHz, whether its source can seek or not."""
    audio = opened((RECORDINGS / name).read_bytes())
    assert audio.sample_rate_hz == 16_000
    assert 8 < sum(map(len, audio.blocks())) / 32_000 < 9
    assert audio.damage == ""


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF])
def test_a_length_that_was_not_known_when_written_means_to_the_end(size: int) -> None:
    """A WAV file written to a pipe is read to its end, its duration unknown."""
    kind, bits, data = encoded(tone(16_000), "i16")
    audio = piped(riff(kind, bits, 16_000, 1, data, size=size))
    assert audio.duration_s is None
    assert b"".join(audio.blocks()) == data


def test_a_truncated_file_gives_its_whole_samples() -> None:
    """A truncated end costs no more than the missing bytes, and never gives half a sample."""
    whole = wav(16_000)
    assert len(b"".join(AudioFile(io.BytesIO(whole[:-1001])).blocks())) == 16_000 - 1002


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"ID3\x03 an mp3 file, really", "no recording that can be read"),
        (b"<html>no recording</html>", "no recording that can be read"),
        (wav(16_000)[:30], "no recording that can be read"),
        (b"RIFF\x00\x00\x00\x00WAVEdata\x04\x00\x00\x00abcd", "no recording that can be read"),
        (riff(1, 16, 0, 1, b"ab"), "no recording that can be read"),
        (riff(1, 16, 16_000, 0, b""), "has no samples"),
        (riff(1, 16, 16_000, 1, b""), "has no samples"),
    ],
)
@pytest.mark.parametrize("opened", [io.BytesIO, lambda data: Dripping(data, [])])
def test_an_unreadable_file_is_refused_with_the_reason(
    opened: Callable[[bytes], BinaryIO], data: bytes, message: str
) -> None:
    """An empty, damaged or foreign file is refused with the reason and a remedy, from a file or a pipe."""
    with pytest.raises(AudioFileError, match=message) as caught:
        list(AudioFile(opened(data)).blocks())
    assert (":" in caught.value.message) or (";" in caught.value.message)


def test_a_file_that_refers_to_others_is_not_followed() -> None:
    """A playlist opens no address."""
    with pytest.raises(AudioFileError):
        list(AudioFile(io.BytesIO(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.wav\n")).blocks())


def test_an_error_of_the_source_is_reported_as_such() -> None:
    """A source that can't be read is reported with the system's own reason."""
    with pytest.raises(AudioFileError, match="the file can't be read: Input/output error"):
        AudioFile(Failing(b"", OSError(5, "Input/output error")))  # type: ignore[arg-type]


def test_an_interrupt_while_opening_is_not_lost() -> None:
    """Ctrl-C while a pipe is silent interrupts the caller."""
    with pytest.raises(KeyboardInterrupt):
        AudioFile(Failing(b"RIFF", KeyboardInterrupt()))  # type: ignore[arg-type]


def test_a_float_file_with_nonsense_in_it_stays_within_bounds() -> None:
    """NaN and infinities become samples instead of noise or a failure."""
    data = np.array([np.nan, np.inf, -np.inf, 9.0], "<f4").tobytes()
    found = samples(riff(3, 32, 16_000, 1, data))[:, 0]
    assert len(found) == 4
    assert np.abs(found).max() <= 1
