"""Finds restart points (`child_protocol.RestartPoint`) beside a recording's decoding, packet by packet. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from processor.decoding.child_protocol import (
    ALIGNED_VERSION,
    RESTART_VERSION,
    SAMPLE_RATE_HZ,
    RestartPoint,
    Source,
)
from processor.decoding.containers import FLAC, MP3, MP4, OGG, WAV, WEBM, Container

MAX_HEAD_BYTES = 16 << 20
"""A container's header that is kept for restarts: the index of hours of film, or a cover picture as large as any."""

WARM_UP_S = 0.5
"""Decoded before the samples count: Opus asks for 80 ms, an MP3 frame may lean on nine before it."""

WARM_UP_PACKETS = 16
"""As `WARM_UP_S`, for codecs with short packets at high rates."""

SERIAL = slice(14, 18)
"""Of an Ogg page: the number of its stream."""

_CLUSTER, _TIMESTAMP, _CHECKSUM = b"\x1f\x43\xb6\x75", b"\xe7", b"\xbf\x84"
_ENDLESS = (0, 0xFFFFFFFF)
_DATA_BASE = 1  # of a track fragment's flags: its samples are counted from the file's beginning


class Packet(Protocol):
    """A packet of PyAV, as far as the finder reads it."""

    pos: int | None
    pts: int | None

    def __bytes__(self) -> bytes:
        """The bytes that the decoder gets."""
        ...


class RecentInput(Protocol):
    """The input's last bytes, by their offset in the child's input."""

    def recent(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, as far as they are still kept; none if `start` is not."""
        ...

    def recent_before(self, marker: bytes, end: int) -> int:
        """Where `marker` last begins before `end`, -1 if it does not."""
        ...


class RestartPointFinder:
    """Reports where a new child could begin, about every `interval_bytes`."""

    def __init__(
        self, recent: RecentInput, container: Container, *, is_fragmented: bool, interval_bytes: int,
        restart: RestartPoint | None, on_point: Callable[[RestartPoint], None],
    ) -> None:  # fmt: skip
        """Read `recent` of a file in `container`, whose own decoding began at `restart`, if not at its first byte."""
        self._recent = recent
        self._container = container
        self._is_fragmented = is_fragmented
        self._seeks_by_index = container == MP4 and not is_fragmented
        self._interval_bytes = interval_bytes
        self._restart = restart
        self._on_point = on_point
        self._is_off = False
        self._head_bytes = -1
        self._end_bytes = 0
        self._serial = b""
        if restart is not None:
            self._head_bytes = restart.head_bytes
            self._end_bytes = restart.end_bytes
            self._serial = restart.serial.to_bytes(4)
        self._latest = -1
        self._next_at = -1
        self._candidate: tuple[int, int, int] | None = None
        self._candidate_packets = 0

    def reset(self) -> None:
        """Forget the candidate: the recording continues in another form, so the samples before it do not count."""
        self._candidate = None

    def add_packet(
        self, packet: Packet, consumed: int, produced: int, rate_hz: int, source: Source | None
    ) -> None:
        """Examine the next packet, after `consumed` samples of `rate_hz`, which follow `produced` of the output."""
        if self._is_off or packet.pos is None or packet.pos < 0:
            return
        is_fresh, self._latest = packet.pos > self._latest, max(self._latest, packet.pos)
        if self._head_bytes < 0:
            self._measure_head(packet)
        if self._next_at < 0:
            self._next_at = packet.pos + self._interval_bytes
        if not is_fresh or not rate_hz or source is None or self._is_off:
            self._candidate_packets += 1
        elif self._candidate is None:
            self._start_candidate(packet, consumed)
        else:
            self._candidate_packets += 1
            warm_up_samples = consumed - self._candidate[2]
            if self._candidate_packets >= WARM_UP_PACKETS and warm_up_samples >= rate_hz * WARM_UP_S:
                self._report(packet.pos, consumed, produced, rate_hz, source)

    def _start_candidate(self, packet: Packet, consumed: int) -> None:
        assert packet.pos is not None  # noqa: S101 -- callers have checked
        if packet.pos < self._next_at:
            return
        boundary = self._boundary(packet, packet.pos)
        if boundary is not None:
            self._candidate, self._candidate_packets = (boundary, packet.pts or 0, consumed), 0

    def _report(self, pos: int, consumed: int, produced: int, rate_hz: int, source: Source) -> None:
        assert self._candidate is not None  # noqa: S101 -- callers have checked
        boundary, pts, _ = self._candidate
        # Only where as many samples went in as make whole ones of the output does a fresh resampler give the same.
        step = rate_hz // math.gcd(rate_hz, SAMPLE_RATE_HZ)
        skip = -consumed % step
        is_aligned = source.delay_samples or source.is_inverted
        self._on_point(RestartPoint(
            version=ALIGNED_VERSION if is_aligned else RESTART_VERSION, source=source, head_bytes=self._head_bytes,
            offset_bytes=self._file_offset(boundary), anchor_bytes=self._file_offset(pos), skip_samples=skip,
            rate_hz=rate_hz, output_samples=produced + (consumed + skip) * SAMPLE_RATE_HZ // rate_hz,
            end_bytes=self._end_bytes, pts=pts if self._seeks_by_index else None, serial=int.from_bytes(self._serial),
        ))  # fmt: skip
        self._candidate, self._next_at = None, pos + self._interval_bytes

    def _file_offset(self, pos: int) -> int:
        return pos if self._restart is None else self._restart.file_offset(pos)

    def _measure_head(self, packet: Packet) -> None:
        """Measure the bytes before the first packet: all that a demuxer must read again."""
        assert packet.pos is not None  # noqa: S101 -- callers have checked
        pos, recent = packet.pos, self._recent
        self._head_bytes = pos
        match self._container.name:
            case MP3.name:
                self._head_bytes = 0  # each frame is decodable by itself
            case WAV.name:
                self._is_off = not self._begins_data(pos)
            case OGG.name:
                self._serial = recent.recent(pos, pos + SERIAL.stop)[SERIAL]
            case WEBM.name | MP4.name if self._container == WEBM or self._is_fragmented:
                self._head_bytes = self._boundary(packet, pos) or -1
        self._is_off |= not 0 <= self._head_bytes <= MAX_HEAD_BYTES

    def _begins_data(self, pos: int) -> bool:
        """Whether a WAV's samples begin at `pos`, as they do unless it holds another codec than PCM."""
        before = self._recent.recent(pos - 8, pos)
        size = int.from_bytes(before[4:], "little")
        if size == _ENDLESS[1]:  # or RF64, whose true size stands at its beginning
            first = self._recent.recent(0, 36)
            size = int.from_bytes(first[28:36], "little") if first[12:16] == b"ds64" else 0
        self._end_bytes = pos + size if size not in _ENDLESS else 0
        return before[:4] == b"data"

    def _boundary(self, packet: Packet, pos: int) -> int | None:
        """Where a demuxer that has read the file's beginning can continue to reach `packet`."""
        match self._container.name:
            case FLAC.name | MP3.name:
                first = bytes(packet)[:2]
                return pos if len(first) == 2 and first[0] == 0xFF and first[1] & 0xE0 == 0xE0 else None  # noqa: PLR2004
            case OGG.name:
                page = self._recent.recent(pos, pos + SERIAL.stop)
                return pos if page.startswith(b"OggS") and page[SERIAL] == self._serial else None
            case WEBM.name:
                return self._cluster(pos)
            case MP4.name if self._is_fragmented:
                return self._fragment(pos)
        return pos

    def _cluster(self, pos: int) -> int | None:
        at = self._recent.recent_before(_CLUSTER, pos)
        if at < 0:
            return None
        size = self._recent.recent(at + 4, at + 5)
        if not size or not size[0]:
            return None
        first = at + 4 + 9 - size[0].bit_length()  # a size of n bytes begins with n - 1 zero bits
        inside = self._recent.recent(first, first + 7)
        if inside.startswith(_CHECKSUM):
            inside = inside[6:]
        return at if inside[:1] == _TIMESTAMP else None

    def _fragment(self, pos: int) -> int | None:
        at = self._recent.recent_before(b"moof", pos) - 4
        if at < 0:
            return None
        box = self._recent.recent(at, pos)
        header = box.find(b"tfhd")
        if box[12:16] != b"mfhd" or header < 0 or box[header + 7] & _DATA_BASE:
            return None
        return at
