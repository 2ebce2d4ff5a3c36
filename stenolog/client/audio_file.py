"""Recordings of any format as 16-bit PCM blocks of a rate that sessions take; reads forward only, so pipes work too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from processor.speech.settings import SAMPLE_RATES_HZ
from stenolog.errors import UserError

RESAMPLED_HZ = 16_000
"""The rate of compressed audio, as an edge decodes it, and of PCM whose own rate sessions don't take: Whisper's own."""

BLOCK_MS = 100
"""Audio in one message: an edge acks about as often, and a second of speech is ten of them."""

OPTIONS = {"protocol_whitelist": ""}
"""A playlist must not open other files or addresses."""

_NO_SAMPLES = "the recording has no samples: it is cut off or damaged; copy or record it again"
_ADVICE = "convert it, for example with `ffmpeg -i FILE out.flac`"


class AudioFileError(UserError):
    """The recording can't be read; the message says why, and what helps."""


class AudioFile:
    """An open recording as little-endian 16-bit samples, interleaved."""

    def __init__(self, source: BinaryIO, *, split_channels: bool = False) -> None:
        """Read the header of `source`; `split_channels` keeps the first two channels apart instead of mixing all.

        Raises:
            AudioFileError: if it is empty, or no recording that can be read.
        """
        self._source = _Source(source) if source.seekable() else _Pipe(source)
        try:
            self._container = av.open(self._source, "r", options=OPTIONS)
        except (av.error.FFmpegError, OSError) as error:
            raise self._refused(error) from error
        if not self._container.streams.audio:
            raise AudioFileError(f"the file has no audio track that can be read; {_ADVICE}")
        self._stream = self._container.streams.audio[0]
        context = self._stream.codec_context
        if not context.sample_rate or not context.channels:
            raise AudioFileError(_NO_SAMPLES)
        self.channels = min(context.channels, 2) if split_channels else 1
        is_sent_unchanged = context.name.startswith("pcm_") and context.sample_rate in SAMPLE_RATES_HZ
        self.sample_rate_hz = context.sample_rate if is_sent_unchanged else RESAMPLED_HZ
        self._samples = 0
        self._resampler: AudioResampler | None = None
        self._template: tuple[str, str, int] | None = None
        self.damage: str = ""
        """Why it ended before its end, if it did; known after the last block."""

    @property
    def duration_s(self) -> float | None:
        """Length by the header; None if that does not say, and of a pipe, where it may say that of a first fragment."""
        length = None if isinstance(self._source, _Pipe) else self._container.duration
        return length / av.time_base if length is not None and length > 0 else None

    def blocks(self, block_ms: int = BLOCK_MS) -> Iterator[bytes]:
        """The samples in blocks of `block_ms`, the last one shorter; of a damaged file those before the damage.

        Raises:
            AudioFileError: if it can't be read, or has no samples.
        """
        size = self.sample_rate_hz * block_ms // 1000 * self.channels * 2
        pending = bytearray()
        for frame in self._frames():
            pending += self._pcm(frame)
            whole_bytes = len(pending) - len(pending) % size
            for start in range(0, whole_bytes, size):
                yield bytes(pending[start : start + size])
            del pending[:whole_bytes]
        if pending:
            yield bytes(pending)
        if not self._samples:
            raise AudioFileError(_NO_SAMPLES)

    def _frames(self) -> Iterator[AudioFrame]:
        """The frames at the rate that is sent."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                _raise_for(self._source)
                self.damage = _reason(error)
                packet = None
            if packet is None:
                break
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError as error:  # the packets after it are often whole
                self.damage = _reason(error)
                continue
            for frame in decoded:
                yield from self._resampled(frame)
        if self._resampler is not None:
            yield from self._resampler.resample(None)

    def _resampled(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        template = (frame.format.name, frame.layout.name, frame.sample_rate)
        if template != self._template:  # at the start, and where recordings were joined
            if self._resampler is not None:
                yield from self._resampler.resample(None)
            self._resampler, self._template = AudioResampler(format="s16", rate=self.sample_rate_hz), template
        assert self._resampler is not None  # noqa: S101 - made with the first template
        frame.pts = None  # timestamps that jump must not stretch anything
        yield from self._resampler.resample(frame)

    def _pcm(self, frame: AudioFrame) -> bytes:
        """The samples of a frame in the channels that are sent."""
        self._samples += frame.samples
        count = frame.layout.nb_channels
        data = bytes(frame.planes[0])[: frame.samples * count * 2]
        if count == self.channels:
            return data
        samples: NDArray[np.int16] = np.frombuffer(data, "<i2").reshape(-1, count)
        if self.channels == 1:
            samples = samples.mean(axis=1).astype("<i2")
        else:
            samples = samples[:, :2] if count > 1 else samples.repeat(2, axis=1)
        return bytes(samples.tobytes())

    def _refused(self, error: Exception) -> AudioFileError:
        _raise_for(self._source)
        if not self._source.read_bytes:
            return AudioFileError("the file is empty: it has no samples to transcribe")
        advice = _ADVICE
        if isinstance(self._source, _Pipe):
            advice += ", or, if it is an MP4 with its index at the end, name the file instead of using a pipe"
        return AudioFileError(
            "this is no recording that can be read: it is of an unknown format, damaged or cut off "
            f"({_reason(error)}); {advice}"
        )


class _Source:
    """A file as PyAV reads it: notes what went wrong in it, since PyAV reports its own errors for those of a source."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.read_bytes = 0
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        try:
            data = self._source.read(size)
        except (OSError, KeyboardInterrupt) as error:
            self.error = error
            raise OSError from error  # an interrupt would be lost inside of PyAV
        self.read_bytes += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset."""
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._source.tell()


class _Pipe(_Source):
    """A source that can't be rewound."""

    seek = tell = None  # type: ignore[assignment]


def _raise_for(source: _Source) -> None:
    """Raise what went wrong in the source itself, if anything did."""
    match source.error:
        case OSError() as error:
            raise AudioFileError(f"the file can't be read: {error.strerror or error}") from error
        case KeyboardInterrupt() as interrupt:
            raise interrupt


def _reason(error: Exception) -> str:
    """Why, for a person; never the name that PyAV gives to its input."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
