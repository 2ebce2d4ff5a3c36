"""Restart points: what a new child needs to yield exactly the samples that an older one would have, from a point on."""

from __future__ import annotations

import msgspec

from processor.decoding.container_sniffer import FLAC, MP3, MP4, OGG, WAV, WEBM, Kind
from processor.decoding.messages import SAMPLE_RATE_HZ, Mark, Source, Trouble

VERSION = 1
"""Of the record below: another one is refused in words, never guessed at."""

MOST_HEAD_BYTES = 16 << 20
"""A container's header that is kept for restarts: the index of hours of film, or a cover picture as large as any."""

WARM_UP_S = 0.5
"""What a decoder hears before its samples count: Opus asks for 80 ms, an MP3 frame may lean on nine before it."""

WARM_UP_PACKETS = 16
"""As `WARM_UP_S`, for codecs with short packets at high rates."""

SETTLE_SAMPLES = SAMPLE_RATE_HZ // 10
"""Of the output, thrown away after a resampler's start: its longest filter spans 32 of them."""

UNKNOWN_RECORD = "was begun by another version, which this one can't go on from"
"""Why a recording fails whose first bytes are gone and whose record means nothing here."""

KINDS = {kind.name: kind for kind in (WEBM, OGG, MP4, MP3, FLAC, WAV)}


class Restart(msgspec.Struct, frozen=True, kw_only=True, tag="restart"):
    """One point from which a recording can be decoded again, given its first bytes and those from an offset on.

    A child that is handed `head_bytes` of the file's beginning and everything from `offset_bytes` on meets its packets
    again. What it decodes before the packet at `anchor_bytes` warms the decoder up; of what comes from there on it
    skips `skip_samples`, which brings the resampler to where its phase is zero, at `output_samples`.
    """

    version: int = VERSION
    source: Source
    head_bytes: int
    offset_bytes: int
    anchor_bytes: int
    skip_samples: int
    rate_hz: int
    output_samples: int
    end_bytes: int = 0
    """Where the container says that its samples end; 0 if it doesn't."""
    pts: int | None = None
    """Time stamp of the first packet, if the demuxer must be told to go there, having read where in its index."""
    serial: int = 0
    """Of the Ogg stream."""

    @property
    def start_samples(self) -> int:
        """The first sample that is yielded."""
        return self.output_samples + SETTLE_SAMPLES

    @property
    def kind(self) -> Kind:
        """The container."""
        return KINDS[self.source.container]

    def position(self, pos: int) -> int:
        """Where in the recording a byte is that a restarted child's demuxer believes at `pos`."""
        return pos if self.pts is not None or pos < self.head_bytes else pos - self.head_bytes + self.offset_bytes


_decoder = msgspec.json.Decoder(Restart)


def decode_restart(record: bytes | str) -> Restart | None:
    """A stored record; None if it is of a version that isn't understood."""
    try:
        found = _decoder.decode(record)
    except msgspec.DecodeError:
        return None
    return found if found.version == VERSION and found.source.container in KINDS else None


Said = Trouble | Mark | Restart
"""What a child tells beside samples."""

_said: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


def decode_said(line: bytes) -> Said | None:
    """The message in a line of standard error; None for whatever else a native library prints there."""
    try:
        return _said.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
