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

from processor.decoding.child_protocol import SAMPLE_BYTES, SAMPLE_RATE_HZ, SETTLE_SAMPLES, RestartPoint, Source
from processor.decoding.child_streams import SparseFile
from processor.decoding.containers import WAV, Container, RefusedError
from processor.decoding.dual_mono import DualMonoDetector, channels_of
from processor.decoding.restart_points import Packet, RestartPointFinder

CODECS = (
    "opus", "vorbis", "aac", "alac", "mp3", "mp3float", "mp2", "mp2float", "flac",
    "pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw",
)  # fmt: skip
"""The only decoders that may ever run: what recorders make. Video tracks stay unopened; each codec is native code."""

RATES_HZ = (4_000, 384_000)
"""Below it a few bytes would claim hours of audio; above it is no sound card."""

LONGEST_CLAIM_S = 360_000
"""A header that claims more than a hundred hours counts as one that states no length."""

SMALL_BUFFER_BYTES = 4_096
"""PyAV asks for so much at a time, and gets the bytes that have arrived."""

OPTIONS = {
    # No address, no second file, whatever the container refers to.
    "protocol_whitelist": "",
    "codec_whitelist": ",".join(CODECS),
    # The header names the codec: the first block of a stream that continues for hours is enough to start with.
    "probesize": "4096",
    "analyzeduration": "1",
}


class Readable(Protocol):
    """The input of PyAV."""

    def read(self, count: int, /) -> bytes:
        """The next bytes; none at the end."""
        ...


class Decoder:
    """Decodes one audio track; unreadable parts are left out, as far as the rest is readable."""

    def __init__(
        self, file: Readable | IO[bytes], container: Container, *, channels: int, duration_s: float | None = None,
        finder: RestartPointFinder | None = None, restart: RestartPoint | None = None,
    ) -> None:  # fmt: skip
        """Open `file` as `container`; more than two channels become one, and so do any with `channels` 1.

        With `channels` 0 two become one if they are the same (see `dual_mono`), with 2 they stay apart.

        With `restart` the file is its first bytes and those from the restart point's offset on, and `pcm` begins
        there; `finder` gets every packet.

        `duration_s` is the length by its header, 0 if that states none; None: the library finds it.

        Raises:
            RefusedError: if it holds no supported audio.
        """
        self._format = container
        self._channels_wanted = channels
        self._duration_s = duration_s
        self._finder = finder
        self._restart = restart
        options = {**OPTIONS, "format_whitelist": container.demuxer}
        if restart is not None and container == WAV:
            options["ignore_length"] = "1"  # the length counts from the file's beginning
        try:
            self._container: InputContainer = av.open(
                file, "r", format=container.demuxer, options=options, buffer_size=SMALL_BUFFER_BYTES
            )
        except (av.error.FFmpegError, MemoryError) as error:
            raise RefusedError(f"{container.name} whose beginning can't be read: {_reason(error)}") from error
        self._stream = self._audio_stream()
        if isinstance(file, SparseFile) and restart is not None and restart.pts is not None:
            file.is_open = True
            self._container.seek(restart.pts, stream=self._stream)
        self._resampler: AudioResampler | None = None
        self._template: tuple[str, str, int] = ("", "", 0)
        self.source: Source | None = None
        """The recording's description; known from the first sample on."""
        self.decoded_samples = 0
        self._consumed = 0  # samples that the present resampler consumed
        self._produced = 0  # samples of the output before the present resampler's
        self._resampled_samples = 0
        self._to_skip = 0
        self._to_settle = 0
        if restart is not None:
            self.source = restart.source
            self.decoded_samples = restart.start_samples
            self._resampled_samples = restart.output_samples
            self._to_skip, self._to_settle = restart.skip_samples, SETTLE_SAMPLES
        self.cut_off: str = ""
        """Why decoding ended before the recording's end, if it did."""

    def pcm(self, on_source: Callable[[Source], None]) -> Iterator[bytes]:
        """The samples, interleaved, as they are decoded; `on_source` is called before the first.

        Raises:
            RefusedError: if no audio could be decoded.
        """
        detector, held = DualMonoDetector(), list[AudioFrame]()
        if self.source is not None:
            on_source(self.source)
        for frame in self._resampled_frames():
            if self.source is None:
                held.append(frame)
                channels = self._channels(frame, detector)
                if channels is None:
                    continue
                self._describe(channels, on_source)
                yield from map(self._samples, held)
                held.clear()
            else:
                yield self._samples(frame)
        if held:
            self._describe(1 if detector.is_dual_mono() else 2, on_source)
            yield from map(self._samples, held)
        if self.source is None:
            raise RefusedError(f"{self._format.name} in which no audio could be decoded")

    def _channels(self, frame: AudioFrame, detector: DualMonoDetector) -> int | None:
        """How many channels to keep; None: not known yet."""
        has = frame.layout.nb_channels
        if has == 2 and self._channels_wanted == 0:  # noqa: PLR2004 -- a pair
            is_dual_mono = detector.add(_interleaved(frame))
            return None if is_dual_mono is None else 1 if is_dual_mono else 2
        return has if has <= min(2, self._channels_wanted or 2) else 1

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
        """Every frame; after a restart those from its anchor on."""
        is_warm = self._restart is None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, MemoryError) as error:
                self.cut_off = _reason(error)
                packet = None
            if packet is not None and packet.size:
                is_warm = is_warm or self._is_anchor(packet)
                if self._finder is not None and is_warm:
                    rate_hz = self._template[2]
                    self._finder.add_packet(packet, self._consumed, self._produced, rate_hz, self.source)
            try:
                frames = self._stream.codec_context.decode(packet)
                if is_warm:
                    yield from frames
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, MemoryError) as error:
                # A damaged block costs its own samples, not the rest.
                self.cut_off = self.cut_off or _reason(error)
            if packet is None:
                return

    def _is_anchor(self, packet: Packet) -> bool:
        """Whether a restart's samples begin with this packet.

        Raises:
            RefusedError: if that packet does not exist.
        """
        assert self._restart is not None  # noqa: S101 -- else it is warm from the start
        if packet.pos is None or (at := self._restart.file_offset(packet.pos)) < self._restart.anchor_bytes:
            return False
        if at > self._restart.anchor_bytes:
            raise RefusedError(f"{self._format.name} that can't be continued from its middle")
        return True

    def _describe(self, channels: int, on_source: Callable[[Source], None]) -> None:
        self.source = Source(
            container=self._format.name,
            codec=self._stream.codec_context.name.removesuffix("float"),
            channels=channels,
            duration_samples=self._duration_samples(),
        )
        on_source(self.source)

    def _duration_samples(self) -> int:
        stream = self._stream
        if self._duration_s is not None:
            seconds = self._duration_s
        elif stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = (self._container.duration or 0) / av.time_base
        return int(seconds * SAMPLE_RATE_HZ) if 0 < seconds < LONGEST_CLAIM_S else 0

    def _resampled_frames(self) -> Iterator[AudioFrame]:
        for frame in self._frames():
            if (rest := self._after_skip(frame)) is not None:
                yield from self._resampled(rest)
        if self._resampler is not None:
            yield from self._counted(self._resampler.resample(None))

    def _after_skip(self, frame: AudioFrame) -> AudioFrame | None:
        """The part of a frame from a restart's first sample on."""
        skipped = min(self._to_skip, frame.samples)
        if not skipped:
            return frame
        self._to_skip -= skipped
        if skipped == frame.samples:
            return None
        samples, width = frame.to_ndarray(), 1 if frame.format.is_planar else frame.layout.nb_channels
        rest = AudioFrame.from_ndarray(samples[:, skipped * width :].copy(), frame.format.name, frame.layout.name)
        rest.sample_rate = frame.sample_rate
        return rest

    def _counted(self, frames: list[AudioFrame]) -> list[AudioFrame]:
        self._resampled_samples += sum(frame.samples for frame in frames)
        return frames

    def _resampled(self, frame: AudioFrame) -> list[AudioFrame]:
        if not RATES_HZ[0] <= frame.sample_rate <= RATES_HZ[1]:
            raise RefusedError(f"its sample rate of {frame.sample_rate} Hz isn't taken")
        template = (frame.format.name, frame.layout.name, frame.sample_rate)
        left: list[AudioFrame] = []
        if template != self._template:  # at the start, and where recordings were joined
            left = self._counted(self._resampler.resample(None)) if self._resampler else []
            self._consumed, self._produced = 0, self._resampled_samples
            if self._finder is not None:
                self._finder.reset()
            self._resampler = AudioResampler(format="s16", rate=SAMPLE_RATE_HZ)
            self._template = template
        assert self._resampler is not None  # noqa: S101 -- made above with the first template
        frame.pts = None  # timestamps that jump must not stretch anything
        self._consumed += frame.samples
        return [*left, *self._counted(self._resampler.resample(frame))]

    def _samples(self, frame: AudioFrame) -> bytes:
        assert self.source is not None  # noqa: S101 -- the first frame has described it
        has, wants = frame.layout.nb_channels, self.source.channels
        unsettled = min(self._to_settle, frame.samples)
        self._to_settle -= unsettled
        self.decoded_samples += frame.samples - unsettled
        data = _interleaved(frame)[unsettled * has * SAMPLE_BYTES :]
        if has == wants:
            return data
        if has == 2:  # noqa: PLR2004 -- a pair
            left, right = channels_of(data)
            if left == right:
                return left.tobytes()
        import numpy as np  # noqa: PLC0415 -- half of the start's time, and few recordings need it

        mixed = np.frombuffer(data, "<i2").reshape(-1, has).mean(axis=1).astype("<i2")
        return np.repeat(mixed, wants).tobytes()


def _interleaved(frame: AudioFrame) -> bytes:
    return bytes(frame.planes[0])[: frame.samples * frame.layout.nb_channels * SAMPLE_BYTES]


def _reason(error: Exception) -> str:
    """The reason, for a person; never the name that the library gave to the input."""
    match error:
        case MemoryError():
            return "it needs too much memory"
        case av.error.EOFError() | av.error.OSError(errno=errno.EIO):
            return "it is cut off"
        case av.error.InvalidDataError():
            return "it is damaged or cut off"
        case _:
            return str(getattr(error, "strerror", None) or "unreadable").lower()
