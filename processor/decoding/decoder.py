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

from processor.decoding.container_sniffer import WAV, Kind
from processor.decoding.dual_mono import DualMonoDetector, channels_of
from processor.decoding.messages import SAMPLE_BYTES, SAMPLE_RATE_HZ, RefusedError, Source
from processor.decoding.restart_points import SETTLE_SAMPLES, Restart
from processor.decoding.seek_points import Packet, SeekPoints
from processor.decoding.sparse_file import SparseFile

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
        self, file: Readable | IO[bytes], kind: Kind, *, channels: int, duration_s: float | None = None,
        points: SeekPoints | None = None, restart: Restart | None = None,
    ) -> None:  # fmt: skip
        """Open `file`, which is of `kind`; more than two channels become one, and so do any with `channels` 1.

        With `channels` 0 two become one if they are the same (see `twins`), with 2 they stay apart.

        With `restart` the file is its first bytes and those from the restart's offset on, and `pcm` begins there;
        `points` is shown every packet.

        `duration_s` is what its header was already seen to say, 0 for nothing; None: what the library finds.

        Raises:
            RefusedError: if there is no audio in it that is taken.
        """
        self._kind = kind
        self._channels_wanted = channels
        self._duration_s = duration_s
        self._points = points
        self._restart = restart
        options = {**OPTIONS, "format_whitelist": kind.demuxer}
        if restart is not None and kind == WAV:
            options["ignore_length"] = "1"  # it counts from the beginning
        try:
            self._container: InputContainer = av.open(
                file, "r", format=kind.demuxer, options=options, buffer_size=SMALL_BUFFER_BYTES
            )
        except (av.error.FFmpegError, MemoryError) as error:
            raise RefusedError(f"{kind.name} whose beginning can't be read: {_reason(error)}") from error
        self._stream = self._audio_stream()
        if isinstance(file, SparseFile) and restart is not None and restart.pts is not None:
            file.is_open = True
            self._container.seek(restart.pts, stream=self._stream)
        self._resampler: AudioResampler | None = None
        self._template: tuple[str, str, int] = ("", "", 0)
        self.source: Source | None = None
        """What the recording is; known from the first sample on."""
        self.decoded_samples = 0
        self._heard = 0  # samples that the present resampler was given
        self._made = 0  # samples that came before those of the present resampler
        self._resampled_samples = 0
        self._to_skip = 0
        self._to_settle = 0
        if restart is not None:
            self.source = restart.source
            self.decoded_samples = restart.start_samples
            self._resampled_samples = restart.output_samples
            self._to_skip, self._to_settle = restart.skip_samples, SETTLE_SAMPLES
        self.cut_off: str = ""
        """Why it ended before its end, if it did."""

    def pcm(self, on_source: Callable[[Source], None]) -> Iterator[bytes]:
        """The samples, interleaved, as they can be had; `on_source` is called before the first.

        Raises:
            RefusedError: if there was nothing to decode.
        """
        twins, held = DualMonoDetector(), list[AudioFrame]()
        if self.source is not None:
            on_source(self.source)
        for frame in self._resampled_frames():
            if self.source is None:
                held.append(frame)
                channels = self._channels(frame, twins)
                if channels is None:
                    continue
                self._describe(channels, on_source)
                yield from map(self._samples, held)
                held.clear()
            else:
                yield self._samples(frame)
        if held:
            self._describe(1 if twins.verdict() else 2, on_source)
            yield from map(self._samples, held)
        if self.source is None:
            raise RefusedError(f"{self._kind.name} in which no audio could be decoded")

    def _channels(self, frame: AudioFrame, twins: DualMonoDetector) -> int | None:
        """How many channels are worth being kept; None: not known yet."""
        has = frame.layout.nb_channels
        if has == 2 and self._channels_wanted == 0:  # noqa: PLR2004 -- a pair
            same = twins.are_one(_interleaved(frame))
            return None if same is None else 1 if same else 2
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
        """Every frame, after a restart those that were not decoded before it."""
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
                if self._points is not None and is_warm:
                    rate_hz = self._template[2]
                    self._points.packet(packet, self._heard, self._made, rate_hz, self.source)
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
            RefusedError: if they begin with one that isn't there.
        """
        assert self._restart is not None  # noqa: S101 -- else it is warm from the start
        if packet.pos is None or (at := self._restart.position(packet.pos)) < self._restart.anchor_bytes:
            return False
        if at > self._restart.anchor_bytes:
            raise RefusedError(f"{self._kind.name} that can't be gone on with in its middle")
        return True

    def _describe(self, channels: int, on_source: Callable[[Source], None]) -> None:
        self.source = Source(
            container=self._kind.name,
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
        """What of a frame comes after a restart's first sample."""
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
            self._heard, self._made = 0, self._resampled_samples
            if self._points is not None:
                self._points.begin_again()
            self._resampler = AudioResampler(format="s16", rate=SAMPLE_RATE_HZ)
            self._template = template
        assert self._resampler is not None  # noqa: S101 -- made above with the first template
        frame.pts = None  # timestamps that jump must not stretch anything
        self._heard += frame.samples
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
