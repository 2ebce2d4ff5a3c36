"""One container decoded to 16-bit PCM at 16 kHz, as it comes; runs in a process of its own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import IO, Protocol

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from processor.decoding.messages import SAMPLE_BYTES, SAMPLE_RATE_HZ, RefusedError, Source
from processor.decoding.sniffing import Kind

CODECS = (
    "opus", "vorbis", "aac", "alac", "mp3", "mp3float", "mp2", "mp2float", "flac",
    "pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw",
)  # fmt: skip
"""The only decoders that may ever run: what recorders make. Video tracks stay unopened; each codec is native code."""

RATES_HZ = (4_000, 384_000)
"""Below it a few bytes would claim hours of audio; above it is no sound card."""

LONGEST_CLAIM_S = 360_000
"""A header that claims more than a hundred hours is taken for one that doesn't know."""

SMALL_BUFFER_BYTES = 4_096
"""PyAV asks for so much at a time, and gets what there is."""

OPTIONS = {
    # No address, no second file, whatever the container refers to.
    "protocol_whitelist": "",
    "codec_whitelist": ",".join(CODECS),
    # The header names the codec: the first block of a stream that goes on for hours is enough to start with.
    "probesize": "4096",
    "analyzeduration": "1",
}


class Readable(Protocol):
    """What PyAV reads from."""

    def read(self, count: int, /) -> bytes:
        """The next bytes; none at the end."""
        ...


class Decoder:
    """Decodes one audio track; everything that can't be read is left out, as far as the rest can."""

    def __init__(
        self, file: Readable | IO[bytes], kind: Kind, *, most_channels: int, duration_s: float | None = None
    ) -> None:
        """Open `file`, which is of `kind`; more than two channels become one, `most_channels` 1 makes it always one.

        `duration_s` is what its header was already seen to say, 0 for nothing; None: what the library finds.

        Raises:
            RefusedError: if there is no audio in it that is taken.
        """
        self._kind = kind
        self._most_channels = most_channels
        self._duration_s = duration_s
        try:
            self._container: InputContainer = av.open(
                file, "r", format=kind.demuxer, options={**OPTIONS, "format_whitelist": kind.demuxer},
                buffer_size=SMALL_BUFFER_BYTES,
            )  # fmt: skip
        except (av.error.FFmpegError, MemoryError) as error:
            raise RefusedError(f"{kind.name} whose beginning can't be read: {_reason(error)}") from error
        self._stream = self._audio_stream()
        self._resampler: AudioResampler | None = None
        self._template: tuple[str, str, int] = ("", "", 0)
        self.source: Source | None = None
        """What the recording is; known from the first sample on."""
        self.decoded_samples = 0
        self.cut_off: str = ""
        """Why it ended before its end, if it did."""

    def pcm(self, on_source: Callable[[Source], None]) -> Iterator[bytes]:
        """The samples, interleaved, as they can be had; `on_source` is called before the first.

        Raises:
            RefusedError: if there was nothing to decode.
        """
        for frame in self._frames():
            if self.source is None:
                self.source = self._described(frame)
                on_source(self.source)
            for resampled in self._resampled(frame):
                yield self._samples(resampled)
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                yield self._samples(resampled)
        if self.source is None:
            raise RefusedError(f"{self._kind.name} in which no audio could be decoded")

    def _audio_stream(self) -> AudioStream:
        for stream in self._container.streams.audio:
            context = stream.codec_context
            if context is None or context.name not in CODECS:
                continue
            if context.sample_rate and not RATES_HZ[0] <= context.sample_rate <= RATES_HZ[1]:
                raise RefusedError(f"its sample rate of {context.sample_rate} Hz isn't taken")
            context.thread_count = 1  # a process per recording is parallel enough, and threads cost address space
            return stream
        if self._container.streams.audio:
            raise RefusedError("holds no audio track in a codec that is taken")
        raise RefusedError("holds no audio track")

    def _frames(self) -> Iterator[AudioFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, MemoryError) as error:
                self.cut_off = _reason(error)
                packet = None
            try:
                yield from self._stream.codec_context.decode(packet)
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, MemoryError) as error:
                # A damaged block costs its own samples, not the rest.
                self.cut_off = self.cut_off or _reason(error)
            if packet is None:
                return

    def _described(self, frame: AudioFrame) -> Source:
        channels = frame.layout.nb_channels
        return Source(
            container=self._kind.name,
            codec=self._stream.codec_context.name.removesuffix("float"),
            channels=channels if channels <= min(2, self._most_channels) else 1,
            duration_samples=self._duration_samples(),
        )

    def _duration_samples(self) -> int:
        stream = self._stream
        if self._duration_s is not None:
            seconds = self._duration_s
        elif stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = (self._container.duration or 0) / av.time_base
        return int(seconds * SAMPLE_RATE_HZ) if 0 < seconds < LONGEST_CLAIM_S else 0

    def _resampled(self, frame: AudioFrame) -> list[AudioFrame]:
        if not RATES_HZ[0] <= frame.sample_rate <= RATES_HZ[1]:
            raise RefusedError(f"its sample rate of {frame.sample_rate} Hz isn't taken")
        template = (frame.format.name, frame.layout.name, frame.sample_rate)
        left: list[AudioFrame] = []
        if template != self._template:  # at the start, and where recordings were joined
            left = self._resampler.resample(None) if self._resampler else []
            self._resampler = AudioResampler(format="s16", rate=SAMPLE_RATE_HZ)
            self._template = template
        assert self._resampler is not None  # noqa: S101 -- made above with the first template
        frame.pts = None  # timestamps that jump must not stretch anything
        return [*left, *self._resampler.resample(frame)]

    def _samples(self, frame: AudioFrame) -> bytes:
        assert self.source is not None  # noqa: S101 -- the first frame has described it
        self.decoded_samples += frame.samples
        has, wants = frame.layout.nb_channels, self.source.channels
        data = bytes(frame.planes[0])[: frame.samples * has * SAMPLE_BYTES]
        if has == wants:
            return data
        import numpy as np  # noqa: PLC0415 -- half of the start's time, and few recordings need it

        mixed = np.frombuffer(data, "<i2").reshape(-1, has).mean(axis=1).astype("<i2")
        return np.repeat(mixed, wants).tobytes()


def _reason(error: Exception) -> str:
    """Why, for a person; never the name that the library gave to our input."""
    match error:
        case MemoryError():
            return "it needs too much memory"
        case av.error.EOFError() | av.error.OSError(errno=errno.EIO):
            return "it is cut off"
        case av.error.InvalidDataError():
            return "it is damaged or cut off"
        case _:
            return str(getattr(error, "strerror", None) or "unreadable").lower()
