"""A recording whose decoding restarts in its middle yields the samples of an undisturbed one."""

import json
import random
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.decoding.child_protocol import FAILURE_STATUS, RestartPoint, decode_restart_point
from tests.integration.decoding.children import Decoded, decoded
from tests.integration.decoding.recordings import FORMATS, FRAGMENTED, Format, encoded, index_first
from tests.support.pcm import talk
from tests.support.stereo_pairs import delayed

# Every way in which a demuxer finds its place again; rates that need a resampler of each kind, codecs that remember.
PLAIN_AAC = (("aac_pns", "0"),)
RESTARTED = {
    "webm": FORMATS["webm"],
    "webm as recorded": FORMATS["webm as recorded"],
    "matroska with checksums": Format("matroska", "pcm_s16le", 44_100),
    "ogg": FORMATS["ogg"],
    "mp4 in fragments": Format("mp4", "aac", 48_000, FRAGMENTED, to_pipe=True, codec_options=PLAIN_AAC),
    "mp4 with its index first": Format("mp4", "aac", 44_100, codec_options=PLAIN_AAC),
    "mp3": FORMATS["mp3"],
    "flac": FORMATS["flac"],
    "flac at 44.1 kHz": Format("flac", "flac", 44_100),
    "wav of 8 bit": FORMATS["wav of 8 bit"],
    "wav of 16 bit": FORMATS["wav of 16 bit"],
    "wav of 24 bit": FORMATS["wav of 24 bit"],
    "wav of floats": FORMATS["wav of floats"],
    "wav to a pipe": FORMATS["wav to a pipe"],
}
STEREO = ("ogg", "mp3", "wav of 24 bit")
TALKS = 2
SHARE = 5
"""Of a recording between two restart points."""


class Broken(NamedTuple):
    """A recording, a child's output for it, and its restart points."""

    data: bytes
    whole: Decoded
    points: tuple[RestartPoint, ...]


@cache
def broken(name: str, channels: int = 1) -> Broken:
    """Some twenty seconds of a format, decoded once with some restart points."""
    form = RESTARTED[name]
    data = encoded(np.concatenate([talk(form.rate_hz, channels)] * TALKS), form)
    if "index first" in name:
        data = index_first(data)
    whole = decoded(data, "--messages", "--restart-interval-bytes", str(len(data) // SHARE))
    points = (decode_restart_point(json.dumps(one)) for one in whole.messages if one["type"] == "restart")
    return Broken(data, whole, tuple(point for point in points if point is not None))


def restarted(recording: Broken, point: RestartPoint, *cuts: int) -> Decoded:
    """Another child's output for the beginning and the rest."""
    given_bytes = recording.data[: point.head_bytes] + recording.data[point.offset_bytes :]
    record = next(json.dumps(one) for one in recording.whole.messages if one.get("anchor_bytes") == point.anchor_bytes)
    assert recording.whole.source is not None
    return decoded(given_bytes, "--restart-point", record, "--messages", cuts=cuts)


@pytest.mark.parametrize(
    ("name", "channels"), [*((name, 1) for name in RESTARTED), *((name, 2) for name in STEREO)]
)
def test_every_point_gives_the_same_samples(name: str, channels: int) -> None:
    """SAFE-1: from each restart point of its decoder, a new one yields exactly the samples of the older one."""
    recording = broken(name, channels)
    assert len(recording.points) >= 3
    assert recording.points[-1].offset_bytes > len(recording.data) // 2
    for point in recording.points:
        found = restarted(recording, point)
        assert (found.status, found.source) == (0, recording.whole.source)
        rest = recording.whole.samples[point.start_samples :]
        assert np.array_equal(found.samples, rest), point


@pytest.mark.parametrize("name", ["mp4 in fragments", "mp4 with its index first"])
def test_synthetic_noise_alone_differs(name: str) -> None:
    """AAC that has its decoder draw noise has another one after a restart, of the same loudness at the same place."""
    form = RESTARTED[name]._replace(codec_options=())
    data = encoded(np.concatenate([talk(form.rate_hz)] * TALKS), form)
    data = index_first(data) if "index first" in name else data
    whole = decoded(data, "--messages", "--restart-interval-bytes", str(len(data) // 3))
    point = decode_restart_point(json.dumps(next(one for one in whole.messages if one["type"] == "restart")))
    assert point is not None
    found = restarted(Broken(data, whole, (point,)), point)
    rest = whole.samples[point.start_samples :].astype(np.float64)
    assert len(found.samples) == len(rest)
    error = found.samples - rest
    assert np.sqrt((error**2).mean()) < 0.05 * np.sqrt((rest**2).mean())


@pytest.mark.parametrize("delay_ms", [6.0, -6.0])
def test_an_aligned_mix_continues_the_same(delay_ms: float) -> None:
    """SAFE-1: channels that are aligned before they are mixed give the same samples after a restart (MEDIA-4)."""
    talker = np.concatenate([talk()[:, 0]] * TALKS).astype(np.float64)
    pair = np.stack([delayed(talker, max(-delay_ms, 0)), -delayed(talker, max(delay_ms, 0))], axis=1)
    data = encoded(pair.clip(-32_768, 32_767).astype(np.int16), RESTARTED["flac"]._replace(rate_hz=16_000))
    whole = decoded(data, "--messages", "--restart-interval-bytes", str(len(data) // SHARE))
    assert whole.source is not None
    assert (whole.source.channels, whole.source.delay_samples, whole.source.is_inverted) == (1, delay_ms * 16, True)
    points = [decode_restart_point(json.dumps(one)) for one in whole.messages if one["type"] == "restart"]
    assert len(points) >= 2
    for point in points:
        assert point is not None
        found = restarted(Broken(data, whole, ()), point)
        assert np.array_equal(found.samples, whole.samples[point.start_samples :])


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(sorted(RESTARTED)), st.data())
def test_pieces_never_matter_after_a_restart(name: str, data: st.DataObject) -> None:
    """However the rest of a recording is cut on its way in, its samples are the same."""
    recording = broken(name)
    point = data.draw(st.sampled_from(recording.points))
    length = point.head_bytes + len(recording.data) - point.offset_bytes
    cuts = data.draw(st.lists(st.integers(1, length - 1), max_size=30))
    assert restarted(recording, point, *cuts).pcm == restarted(recording, point).pcm


@pytest.mark.parametrize("name", ["ogg", "mp3", "wav of 24 bit", "mp4 with its index first", "webm"])
def test_points_are_found_after_a_restart_too(name: str) -> None:
    """A chain of decoders, each of which ends soon after its first point, yields the samples of a single one."""
    recording = broken(name)
    every = str(len(recording.data) // SHARE)
    options, given_bytes, pcm, restarts = ["--restart-interval-bytes", every], recording.data, b"", 0
    while True:
        found = decoded(given_bytes, "--messages", *options)
        assert found.status == 0, found.messages
        points = [one for one in found.messages if one["type"] == "restart"]
        if not points:
            break
        point = decode_restart_point(json.dumps(points[0]))
        assert point is not None
        started = recording.whole.pcm[len(pcm) :][: len(found.pcm)]
        assert found.pcm == started
        pcm = recording.whole.pcm[: point.start_samples * 2]
        given_bytes = recording.data[: point.head_bytes] + recording.data[point.offset_bytes :]
        options = ["--restart-interval-bytes", every, "--restart-point", json.dumps(points[0])]
        restarts += 1
    assert pcm + found.pcm == recording.whole.pcm
    assert restarts >= 3


@pytest.mark.parametrize("name", ["wav of 16 bit", "ogg", "mp4 with its index first", "flac"])
def test_hostile_ends_after_a_restart_fail_in_words(name: str) -> None:
    """Bytes that do not match their restart point, and another version's point, end the decoder with a sentence."""
    recording = broken(name)
    point = recording.points[1]
    record = next(one for one in recording.whole.messages if one.get("anchor_bytes") == point.anchor_bytes)
    noise = random.Random(name).randbytes(100_000)
    rest = recording.data[: point.head_bytes] + noise
    strange = decoded(rest, "--restart-point", json.dumps(record))
    assert strange.status in {0, FAILURE_STATUS}
    older = decoded(rest, "--restart-point", json.dumps({**record, "version": 0}))
    assert (older.status, older.pcm) == (FAILURE_STATUS, b"")
    assert "another version" in older.message


def test_bytes_after_the_samples_of_a_wav_are_skipped() -> None:
    """Tags that stand behind a WAV's samples are no sound, after a restart as before it."""
    recording = broken("wav of 16 bit")
    tags = b"LIST" + (50_000).to_bytes(4, "little") + bytes(range(250)) * 200
    tagged = recording._replace(data=recording.data + tags)
    assert decoded(tagged.data).pcm == recording.whole.pcm
    point = recording.points[0]
    assert np.array_equal(restarted(tagged, point).samples, recording.whole.samples[point.start_samples :])
