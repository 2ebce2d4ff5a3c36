"""One container decoded to 16-bit PCM at 16 kHz, as it comes; runs in a process of its own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Protocol

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from processor.decoding.child_protocol import SAMPLE_BYTES, SAMPLE_RATE_HZ, SETTLE_SAMPLES, RestartPoint, Source
from processor.decoding.child_streams import SparseFile
from processor.decoding.containers import WAV, Container, RefusedError
from processor.decoding.layouts import MIX, SPLIT, ChannelOptions, Judgement
from processor.decoding.restart_points import Packet, RestartPointFinder

if TYPE_CHECKING:
    from processor.decoding.channel_mixer import ChannelMixer
    from processor.decoding.layout_judge import LayoutJudge

CODECS = (
    "opus", "vorbis", "aac", "alac", "mp3", "mp3float", "mp2", "mp2float", "flac",
    "pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw",
)  # fmt: skip
"""The only decoders that may ever run: what recorders make. Video tracks stay unopened; each codec is native code."""

RATES_HZ = (4_000, 384_000)
"""Below it a few bytes would claim hours of audio; above it is no sound card."""

LONGEST_CLAIM_S = 360_000
"""A header that claims more than a hundred hours counts as one that states no length."""

_PAIR = 2  # channels, that of a stereo recording

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
        self, file: Readable | IO[bytes], container: Container, options: ChannelOptions, *,
        duration_s: float | None = None, finder: RestartPointFinder | None = None, restart: RestartPoint | None = None,
    ) -> None:  # fmt: skip
        """Open `file` as `container`; more than two channels become one, and two as `options` say.

        If their layout is judged they become one if they carry the same (see `layout_judge`). To judge it, or to align
        them before they are mixed, samples are held back.

        With `restart` the file is its first bytes and those from the restart point's offset on, and `pcm` begins
        there; `finder` gets every packet.

        `duration_s` is the length by its header, 0 if that states none; None: the library finds it.

        Raises:
            RefusedError: if it holds no supported audio.
        """
        self._format = container
        self._options = options
        self._read_to_bytes = 0
        self._judge: LayoutJudge | None = None
        self._mixer: ChannelMixer | None = None
        self._held: list[AudioFrame] = []
        self.held_samples = 0
        """Decoded and held back, until the layout is judged."""
        self._duration_s = duration_s
        self._finder = finder
        self._restart = restart
        demuxing = {**OPTIONS, "format_whitelist": container.demuxer}
        if restart is not None and container == WAV:
            demuxing["ignore_length"] = "1"  # the length counts from the file's beginning
        try:
            self._container: InputContainer = av.open(
                file, "r", format=container.demuxer, options=demuxing, buffer_size=SMALL_BUFFER_BYTES
            )
        except (av.error.FFmpegError, MemoryError) as error:
            raise RefusedError(f"{container.name} whose beginning can't be read: {_reason(error)}") from error
        self._stream = self._audio_stream(options.track)
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
            self._take_source(restart.source)
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
        if self.source is not None:
            on_source(self.source)
        for frame in self._resampled_frames():
            if self.source is not None:
                yield self._samples(frame)
                continue
            self._held.append(frame)
            self.held_samples += frame.samples
            judgement = self._judged(frame)
            yield b"" if judgement is None else self._begin(judgement, on_source)
        yield self.release(on_source, is_all=True)
        if self.source is None:
            raise RefusedError(f"{self._format.name} in which no audio could be decoded")
        yield self._last_samples()

    def release(self, on_source: Callable[[Source], None], *, is_all: bool = False) -> bytes:
        """The samples that are held back, if any, with the layout judged by them; `is_all` says that none follow."""
        return self._begin(self._judge.judgement(is_all=is_all), on_source) if self._judge is not None else b""

    def _judged(self, frame: AudioFrame) -> Judgement | None:
        """The layout, if it is known after this frame."""
        if frame.layout.nb_channels != _PAIR:
            return self._judge.judgement(is_all=True) if self._judge else Judgement()
        if self._options.layout == SPLIT:
            return Judgement(SPLIT)
        if self._judge is None:
            from processor.decoding.layout_judge import LayoutJudge  # noqa: PLC0415 -- half of the start's time

            self._judge = LayoutJudge(is_recorded=self._options.is_recorded)
        judgement = self._judge.add(_interleaved(frame))
        if judgement is None and 0 < self._options.max_held_bytes <= self._read_to_bytes:
            return self._judge.judgement(is_all=self._options.is_recorded)
        return judgement

    def _audio_stream(self, track: int) -> AudioStream:
        tracks = self._container.streams.audio
        if not tracks:
            raise RefusedError("holds no audio track")
        if track >= len(tracks):
            raise RefusedError(f"holds no audio track {track}: the last one is {len(tracks) - 1}")
        wanted = tracks[track : track + 1] if track >= 0 else tracks
        taken = [one for one in wanted if one.codec_context is not None and one.codec_context.name in CODECS]
        if not taken:
            raise RefusedError("holds no audio track in a codec that is taken")
        stream = next((one for one in taken if one.disposition & Disposition.default), taken[0])
        context = stream.codec_context
        if context.sample_rate and not RATES_HZ[0] <= context.sample_rate <= RATES_HZ[1]:
            raise RefusedError(f"its sample rate of {context.sample_rate} Hz isn't taken")
        context.thread_count = 1  # a process per recording is parallel enough, and threads cost address space
        return stream

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
                self._read_to_bytes = max(self._read_to_bytes, (packet.pos or 0) + packet.size)
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

    def _begin(self, judgement: Judgement, on_source: Callable[[Source], None]) -> bytes:
        """Describe the recording; returns the samples up to here."""
        if judgement.layout == SPLIT and self._options.layout == MIX:
            judgement = Judgement(MIX)
        source = Source(
            container=self._format.name,
            codec=self._stream.codec_context.name.removesuffix("float"),
            channels=2 if judgement.layout == SPLIT else 1,
            duration_samples=self._duration_samples(),
            layout=judgement.layout, delay_samples=judgement.delay_samples, is_inverted=judgement.is_inverted,
        )  # fmt: skip
        self._take_source(source)
        held, self._held, self._judge, self.held_samples = self._held, [], None, 0
        on_source(source)
        return b"".join(map(self._samples, held))

    def _take_source(self, source: Source) -> None:
        self.source = source
        if source.layout == MIX:
            from processor.decoding.channel_mixer import ChannelMixer  # noqa: PLC0415 -- as the judge

            self._mixer = ChannelMixer(Judgement(source.layout, source.delay_samples, source.is_inverted))

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
        data = _interleaved(frame)
        if has == _PAIR and self._mixer is not None:
            return self._settled(self._mixer.mix(data))
        before = self._mixer.flush() if self._mixer is not None else b""
        if has != wants:
            import numpy as np  # noqa: PLC0415 -- half of the start's time, and few recordings need it

            mixed = np.frombuffer(data, "<i2").reshape(-1, has).mean(axis=1).astype("<i2")
            data = np.repeat(mixed, wants).tobytes()
        return self._settled(before + data)

    def _last_samples(self) -> bytes:
        return self._settled(self._mixer.flush()) if self._mixer is not None else b""

    def _settled(self, data: bytes) -> bytes:
        """The samples of the output without those while a restart's resampler settles."""
        assert self.source is not None  # noqa: S101 -- the first frame has described it
        frame_bytes = self.source.channels * SAMPLE_BYTES
        unsettled = min(self._to_settle, len(data) // frame_bytes)
        self._to_settle -= unsettled
        self.decoded_samples += len(data) // frame_bytes - unsettled
        return data[unsettled * frame_bytes :]


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
