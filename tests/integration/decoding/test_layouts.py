"""One talker on two channels comes out as one channel, two as two, and of several tracks the one that is meant."""

import io
from typing import Any

import av
import numpy as np
import pytest

from processor.decoding.child_protocol import FAILURE_STATUS
from processor.decoding.layouts import MIX, SPLIT
from tests.integration.decoding.children import Decoded, decoded
from tests.integration.decoding.recordings import FORMATS, encoded
from tests.support.pcm import Samples, sentence, talk
from tests.support.stereo_pairs import ONE_TALKER, TWO_TALKERS, Pair, delayed
from tests.support.tree import ROOT

RATE_HZ = 16_000
WAV = FORMATS["wav of 16 bit"]


def stereo(pair: Pair) -> bytes:
    """The pair as a WAV."""
    return encoded(np.stack(pair, axis=1).clip(-32_768, 32_767).astype(np.int16), WAV)


def layout_of(found: Decoded) -> tuple[int, int, str]:
    """Status, channels and layout of a child's output."""
    assert found.source is not None
    return found.status, found.source.channels, found.source.layout


def two_tracks(samples: Samples, default: int) -> bytes:
    """A Matroska file of silence and of `samples`, of which track `default` is marked."""
    target: Any = io.BytesIO()
    with av.open(target, "w", format="matroska") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono") for _ in range(2)]
        streams[default].disposition = av.stream.Disposition.default
        streams[1 - default].disposition = av.stream.Disposition(0)
        for stream, sound in zip(streams, (samples * 0, samples), strict=True):
            frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = RATE_HZ
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    return bytes(target.getvalue())


@pytest.mark.parametrize("name", ["webm", "mp3", "mp4 in fragments", "flac", "wav of 16 bit"])
def test_one_microphone_on_two_channels_is_one_channel(name: str) -> None:
    """A stereo file of a single microphone gives one channel, whose samples are those of the mono file (LIVE-5)."""
    form = FORMATS[name]
    mono = talk(form.rate_hz, 1)
    found = decoded(encoded(np.repeat(mono, 2, axis=1), form))
    assert layout_of(found) == (0, 1, MIX)
    alone = decoded(encoded(mono, form)).samples[:, 0].astype(float)
    both = found.samples[:, 0].astype(float)
    length = min(len(alone), len(both))
    assert np.corrcoef(alone[:length], both[:length])[0, 1] > 0.95


@pytest.mark.parametrize("ending", ["webm", "mp4"])
def test_a_browser_recording_is_one_channel(ending: str) -> None:
    """What MediaRecorder made of one microphone has one channel, though its file says two (LIVE-5)."""
    found = decoded((ROOT / f"tests/recordings/mediarecorder.{ending}").read_bytes())
    assert layout_of(found) == (0, 1, MIX)


@pytest.mark.parametrize("options", [(), ("--recorded",)], ids=["live", "recorded"])
@pytest.mark.parametrize("name", ["1 dB apart", "inverted", "a room on the left, 0.6 ms", "noises at 50 dB"])
def test_one_talker_comes_out_once(name: str, options: tuple[str, ...]) -> None:
    """A talker on two channels becomes one channel, as loud and clear as the louder of them (MEDIA-4)."""
    talker = talk()[:, 0].astype(np.float64)
    found = decoded(stereo(ONE_TALKER[name](talker)), *options)
    assert layout_of(found) == (0, 1, MIX)
    mixed = found.samples[:, 0].astype(float)
    assert len(mixed) == len(talker)
    assert np.corrcoef(mixed, talker)[0, 1] > 0.9
    assert 0.7 < np.std(mixed) / np.std(talker) < 1.4


@pytest.mark.parametrize("name", ["at once", "a beep first, at once", "a jingle first, at once", "one alone"])
def test_two_talkers_come_out_apart(name: str) -> None:
    """Two talkers keep their channels, sample for sample, whatever comes before them (MEDIA-4)."""
    pair = TWO_TALKERS[name](talk()[:, 0].astype(np.float64), sentence("0870").astype(np.float64))
    found = decoded(stereo(pair), "--recorded")
    assert layout_of(found) == (0, 2, SPLIT)
    assert np.array_equal(found.samples, np.stack(pair, axis=1).clip(-32_768, 32_767).astype(np.int16))


def test_a_requested_layout_is_kept() -> None:
    """Channels stay apart though they are equal, and are mixed though they are two talkers', if asked for (MEDIA-4)."""
    same, two = (encoded(samples, WAV) for samples in (np.repeat(talk(), 2, axis=1), talk(channels=2)))
    assert layout_of(decoded(same, "--layout", SPLIT)) == (0, 2, SPLIT)
    mixed = decoded(two, "--layout", MIX)
    assert layout_of(mixed) == (0, 1, MIX)
    assert np.array_equal(mixed.samples[:, 0], np.trunc(talk(channels=2).mean(axis=1)).astype(np.int16))


@pytest.mark.parametrize("layout", ["auto", MIX])
@pytest.mark.parametrize("delay_ms", [0.0, 0.6, -6.0])
def test_a_mixed_pair_is_aligned(delay_ms: float, layout: str) -> None:
    """A pair in opposite phase, one channel late, is mixed to its talker's samples, not to silence (MEDIA-4)."""
    talker = talk()[:, 0].astype(np.float64)
    left, right = delayed(talker, max(-delay_ms, 0)), -delayed(talker, max(delay_ms, 0))
    found = decoded(stereo((left, right)), "--layout", layout)
    assert found.source is not None
    assert found.source.is_inverted
    mixed = found.samples[:, 0].astype(float)
    assert len(mixed) == len(left)
    assert np.corrcoef(mixed, left)[0, 1] > 0.98


def test_the_default_track_is_taken() -> None:
    """Of two audio tracks the one that the file marks as default is decoded, wherever it stands (MEDIA-4)."""
    speech = talk()[:, 0]
    for default in (0, 1):
        found = decoded(two_tracks(speech, default))
        assert found.status == 0
        assert np.array_equal(found.samples[:, 0], speech * default)


def test_a_track_may_be_chosen() -> None:
    """Any audio track can be asked for by its number; one that does not exist fails in words (MEDIA-4)."""
    data = two_tracks(talk()[:, 0], 0)
    assert [bool(decoded(data, "--track", str(track)).samples.any()) for track in (0, 1)] == [False, True]
    missing = decoded(data, "--track", "2")
    assert (missing.status, missing.source) == (FAILURE_STATUS, None)
    assert missing.message == "holds no audio track 2: the last one is 1"
