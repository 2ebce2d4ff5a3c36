"""WAV files of any kind as 16-bit PCM blocks of a rate that sessions take; reads forward only, so pipes work too."""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

from processor.speech.settings import SAMPLE_RATES_HZ

RESAMPLED_HZ = 16_000
"""What other rates become: Whisper's own, so nothing that a recogniser hears is lost."""

READ_FRAMES = 48_000
"""Frames read at once: a second or so, little memory and few calls."""

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_ENCODINGS = {
    (_PCM, 8): "u1", (_PCM, 16): "<i2", (_PCM, 24): "i24", (_PCM, 32): "<i4",
    (_FLOAT, 32): "<f4", (_FLOAT, 64): "<f8", (_ALAW, 8): "alaw", (_MULAW, 8): "mulaw",
}
_UNKNOWN_LENGTH = (0, 0xFFFF_FFFF)  # what writers to a pipe put where they can't know the length
_MOST_CHANNELS = 64  # more is no recording but a damaged header


class WavError(Exception):
    """The file isn't a WAV file that can be read; the message says why."""


class Header(NamedTuple):
    """What a WAV file says of its samples."""

    encoding: str
    channels: int
    sample_rate_hz: int
    frame_bytes: int
    frames: int | None
    """None if the file doesn't say."""


class Recording:
    """An open WAV file as little-endian 16-bit samples."""

    def __init__(self, source: BinaryIO, *, split_channels: bool = False) -> None:
        """Reads the header; `split_channels` keeps up to two channels apart instead of mixing them.

        Raises:
            WavError: if it isn't a WAV file that can be read.
        """
        self.header = read_header(source)
        self._source = source
        self.channels = min(self.header.channels, 2) if split_channels else 1
        self._resamples = self.header.sample_rate_hz not in SAMPLE_RATES_HZ
        self.sample_rate_hz = RESAMPLED_HZ if self._resamples else self.header.sample_rate_hz

    @property
    def duration_s(self) -> float | None:
        """Length as the file states it, if it does."""
        return None if self.header.frames is None else self.header.frames / self.header.sample_rate_hz

    def blocks(self, block_ms: int = 100) -> Iterator[bytes]:
        """The samples in blocks of `block_ms`, the last one shorter.

        Raises:
            WavError: if the file ends in the middle of a sample or can't be read.
        """
        size = self.sample_rate_hz * block_ms // 1000 * self.channels * 2
        pending = bytearray()
        for pcm in self._pcm():
            pending += pcm
            whole = len(pending) - len(pending) % size
            for start in range(0, whole, size):
                yield bytes(pending[start : start + size])
            del pending[:whole]
        if pending:
            yield bytes(pending)

    def _pcm(self) -> Iterator[bytes]:
        if self.header.encoding == "<i2" and self.header.channels == self.channels and not self._resamples:
            return self._raw()
        # Only files that need it pay for numpy and soxr.
        from stenolog.client.samples import converted  # noqa: PLC0415

        return converted(self._raw(), self.header, self.channels, self.sample_rate_hz)

    def _raw(self) -> Iterator[bytes]:
        left = None if self.header.frames is None else self.header.frames * self.header.frame_bytes
        rest = b""
        while left is None or left > 0:
            size = READ_FRAMES * self.header.frame_bytes
            data = _read(self._source, size if left is None else min(size, left))
            if not data:
                return  # shorter than it says: cut off while it was written; what is there counts
            left = None if left is None else left - len(data)
            data = rest + data
            whole = len(data) - len(data) % self.header.frame_bytes
            rest = data[whole:]
            yield data[:whole]


def read_header(source: BinaryIO) -> Header:
    """Reads up to the first sample.

    Raises:
        WavError: if it isn't a WAV file, or of a kind that can't be read.
    """
    head = _read(source, 12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":  # noqa: PLR2004 - RIFF's own header
        raise WavError("this is not a WAV file")
    described: bytes | None = None
    while True:
        chunk = _read(source, 8)
        if len(chunk) < 8:  # noqa: PLR2004 - name and length
            raise WavError("this WAV file has no samples")
        name, size = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data":
            if described is None:
                raise WavError("this WAV file does not say what its samples are")
            return _header(described, size)
        body = _read(source, size + size % 2)
        if name == b"fmt ":
            described = body


def _header(body: bytes, size: int) -> Header:
    if len(body) < 16:  # noqa: PLR2004 - the oldest and shortest form
        raise WavError("this WAV file's description is damaged")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
    if kind == _EXTENSIBLE and len(body) >= 26:  # noqa: PLR2004 - the real kind begins the sub-format at byte 24
        kind = struct.unpack("<H", body[24:26])[0]
    encoding = _ENCODINGS.get((kind, bits))
    if encoding is None:
        raise WavError(f"this WAV file's samples (format {kind}, {bits} bits) can't be read; convert it to 16-bit PCM")
    if not 0 < channels <= _MOST_CHANNELS or not 0 < rate <= 768_000:  # noqa: PLR2004 - above any sound card's rate
        raise WavError(f"this WAV file says {channels} channels at {rate} Hz, which can't be")
    frame_bytes = channels * bits // 8
    return Header(encoding, channels, rate, frame_bytes, None if size in _UNKNOWN_LENGTH else size // frame_bytes)


def _read(source: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end: a pipe gives what it has."""
    parts = []
    while size > 0:
        try:
            part = cast("bytes | None", source.read(size))
        except OSError as error:
            raise WavError(f"the file can't be read: {error.strerror or error}") from error
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
