"""Real recordings of the bundled speech, as recorders make them: every container and codec that is taken."""

import io
from functools import cache
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from tests.support.pcm import Samples, talk


class Format(NamedTuple):
    """How a recording is made.

    Attributes:
        muxer: FFmpeg's name of it.
        codec: FFmpeg's name of the encoder.
        rate_hz: What it is recorded at.
        options: The muxer's.
        to_pipe: Written without ever seeking back, as a recorder does that sends while it records.
        codec_options: The encoder's.
    """

    muxer: str
    codec: str
    rate_hz: int
    options: tuple[tuple[str, str], ...] = ()
    to_pipe: bool = False
    codec_options: tuple[tuple[str, str], ...] = ()


FRAGMENTED = (("movflags", "frag_keyframe+empty_moov+default_base_moof"), ("frag_duration", "250000"))

FORMATS = {
    "webm": Format("webm", "libopus", 48_000),
    "webm as recorded": Format("webm", "libopus", 48_000, (("live", "1"), ("cluster_time_limit", "250")), to_pipe=True),
    "ogg": Format("ogg", "libopus", 48_000, to_pipe=True),
    "mp4 with its index last": Format("mp4", "aac", 44_100),
    "mp4 in fragments": Format("mp4", "aac", 48_000, FRAGMENTED, to_pipe=True),
    "mp3": Format("mp3", "libmp3lame", 44_100),
    "flac": Format("flac", "flac", 48_000),
    "flac at 8 kHz": Format("flac", "flac", 8_000),
    "wav of 8 bit": Format("wav", "pcm_u8", 8_000),
    "wav of 16 bit": Format("wav", "pcm_s16le", 16_000),
    "wav of 24 bit": Format("wav", "pcm_s24le", 44_100),
    "wav of 32 bit": Format("wav", "pcm_s32le", 48_000),
    "wav of floats": Format("wav", "pcm_f32le", 24_000),
    "wav to a pipe": Format("wav", "pcm_s16le", 24_000, to_pipe=True),
}


class _Pipe:
    """Somewhere to write to without seeking."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


@cache
def recording(name: str, channels: int = 1) -> bytes:
    """The nine seconds of `talk` as a file of a format; channels speak at different times."""
    if name == "mp4 with its index first":
        return index_first(recording("mp4 with its index last", channels))
    form = FORMATS[name]
    return encoded(talk(form.rate_hz, channels), form)


def encoded(samples: Samples, form: Format) -> bytes:
    """A file of these samples, shape (samples, channels)."""
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    seekable, pipe = io.BytesIO(), _Pipe()
    target: Any = pipe if form.to_pipe else seekable
    with av.open(target, "w", format=form.muxer, options=dict(form.options)) as container:
        options = dict(form.codec_options)
        stream = container.add_stream(form.codec, rate=form.rate_hz, options=options, layout=layout)
        assert isinstance(stream, av.AudioStream)
        context = stream.codec_context
        context.open()
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = form.rate_hz
        resampler = av.AudioResampler(context.format, context.layout, form.rate_hz, context.frame_size or 4_096)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(piece))
    return bytes(pipe.data) if form.to_pipe else seekable.getvalue()


def boxes(data: bytes, at: int = 0, end: int | None = None) -> list[tuple[bytes, int, int]]:
    """An MP4's boxes on one level: name, start and end."""
    found = []
    end = len(data) if end is None else end
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4])
        found.append((data[at + 4 : at + 8], at, at + size))
        at += size
    return found


def index_first(data: bytes) -> bytes:
    """An MP4 with its index moved before the media, as `qt-faststart` does it."""
    top = {name: data[start:end] for name, start, end in boxes(data)}
    moov = bytearray(top[b"moov"])
    shift = len(moov)
    at = moov.index(b"stco")
    for entry in range(int.from_bytes(moov[at + 8 : at + 12])):
        place = at + 12 + 4 * entry
        offset = int.from_bytes(moov[place : place + 4]) + shift
        moov[place : place + 4] = offset.to_bytes(4)
    return b"".join(
        bytes(moov) if name == b"moov" else data[start:end]
        for name, start, end in sorted(boxes(data), key=lambda box: _ORDER.get(box[0], 1))
    )


_ORDER = {b"ftyp": -1, b"moov": 0}

NAMES = (*FORMATS, "mp4 with its index first")


def likeness(actual: npt.NDArray[np.int16], expected: npt.NDArray[np.int16]) -> float:
    """How alike two recordings sound: the correlation of their loudness, 50 ms at a time, a codec's delay aside."""
    return max(_likeness(actual[delay:], expected) for delay in range(0, 1_600, 160))


def _likeness(actual: npt.NDArray[np.int16], expected: npt.NDArray[np.int16]) -> float:
    window = 800
    count = min(len(actual), len(expected)) // window
    loud = [
        np.sqrt((one[: count * window].reshape(count, window).astype(np.float64) ** 2).mean(axis=1))
        for one in (actual, expected)
    ]
    return float(np.corrcoef(*loud)[0, 1])
