"""The protocol of a decoder child: a `Source` line and PCM on its standard output, other messages on standard error.

Messages are JSON objects, one a line. A `RestartPoint` is stored with the upload as well, so its fields are a format.
"""

from __future__ import annotations

import msgspec

from processor.decoding.containers import FLAC, MP3, MP4, OGG, WAV, WEBM, Container

SAMPLE_RATE_HZ = 16_000
"""Everything is decoded to Whisper's own rate, so no recogniser has to resample again."""

SAMPLE_BYTES = 2  # 16-bit PCM

FAILURE_STATUS = 3
"""Exit status of a child that reports in a `Failure` why it decoded nothing, or nothing more; a crash has another."""

RESTART_VERSION, ALIGNED_VERSION = 1, 2
"""Of `RestartPoint`: others are refused in words, never guessed at. The second has channels that are aligned when they
are mixed: an older worker, which would mix an inverted pair to silence, refuses it."""

UNKNOWN_RESTART_POINT = "was begun by another version, which this one can't continue from"
"""Why a recording fails whose first bytes are gone and whose restart point this version cannot read."""

SETTLE_SAMPLES = SAMPLE_RATE_HZ // 10
"""Of the output, thrown away after a resampler's start: its longest filter spans 32 of them."""

CONTAINERS = {one.name: one for one in (WEBM, OGG, MP4, MP3, FLAC, WAV)}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The recording's description: the first line on standard output, before the samples."""

    container: str
    codec: str
    channels: int
    duration_samples: int = 0
    """Of the whole recording by the container's header; 0 if it does not state it."""
    sample_rate_hz: int = SAMPLE_RATE_HZ
    layout: str = ""
    """Of a recording's two channels, with how they are aligned when mixed; see `layouts.Judgement`."""
    delay_samples: int = 0
    is_inverted: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag="failure"):
    """Why decoding ended before the end; `message` is for a person."""

    message: str


class InputConsumed(msgspec.Struct, frozen=True, kw_only=True, tag="input_consumed"):
    """All samples of the first `read_bytes` of input are written; the child waits for more input."""

    read_bytes: int
    written_bytes: int
    """To standard output, its first line included."""
    held_samples: int = 0
    """Decoded and not written, because the first line is not known yet."""


class RestartPoint(msgspec.Struct, frozen=True, kw_only=True, tag="restart"):
    """A point from which a recording can be decoded again, given its first bytes and those from an offset on.

    The new child yields exactly the samples that the old one would have yielded from there. A child that gets
    `head_bytes` of the file's beginning and everything from `offset_bytes` on meets its packets again. Its decoding
    before the packet at `anchor_bytes` warms the decoder up; of the samples from there on it skips `skip_samples`,
    which brings the resampler to where its phase is zero, at `output_samples`.
    """

    version: int = RESTART_VERSION
    source: Source
    head_bytes: int
    offset_bytes: int
    anchor_bytes: int
    skip_samples: int
    rate_hz: int
    output_samples: int
    end_bytes: int = 0
    """Where its samples end by the container's header; 0 if that does not state it."""
    pts: int | None = None
    """Time stamp of the first packet, if the demuxer must seek to it by its index."""
    serial: int = 0
    """Of the Ogg stream."""

    @property
    def start_samples(self) -> int:
        """The first sample that is yielded."""
        return self.output_samples + SETTLE_SAMPLES

    @property
    def container(self) -> Container:
        """The container."""
        return CONTAINERS[self.source.container]

    def file_offset(self, position: int) -> int:
        """The offset in the recording of a byte that a restarted child's demuxer believes at `position`."""
        if self.pts is not None or position < self.head_bytes:
            return position
        return position - self.head_bytes + self.offset_bytes


Message = Failure | InputConsumed | RestartPoint

_source = msgspec.json.Decoder(Source)
_restart_point = msgspec.json.Decoder(RestartPoint)
_message: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode_line(message: msgspec.Struct) -> bytes:
    """The message as a line."""
    return msgspec.json.encode(message) + b"\n"


def decode_source(line: bytes) -> Source:
    """The first line of standard output.

    Raises:
        msgspec.DecodeError: if it is no `Source`.
    """
    return _source.decode(line)


def decode_message(line: bytes) -> Message | None:
    """The message in a line of standard error; None for any other text that a native library prints there."""
    try:
        return _message.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_restart_point(record: bytes | str) -> RestartPoint | None:
    """A stored restart point; None if this version does not know its version."""
    try:
        found = _restart_point.decode(record)
    except msgspec.DecodeError:
        return None
    is_known = found.version in {RESTART_VERSION, ALIGNED_VERSION} and found.source.container in CONTAINERS
    return found if is_known else None
