"""Where a recording can be decoded from anew: found beside its decoding, packet by packet."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from processor.decoding.container_sniffer import FLAC, MP3, MP4, OGG, WAV, WEBM, Kind
from processor.decoding.messages import SAMPLE_RATE_HZ, Source
from processor.decoding.restart_points import MOST_HEAD_BYTES, WARM_UP_PACKETS, WARM_UP_S, Restart

SERIAL = slice(14, 18)
"""Of an Ogg page: the number of its stream."""

_CLUSTER, _TIMESTAMP, _CHECKSUM = b"\x1f\x43\xb6\x75", b"\xe7", b"\xbf\x84"
_ENDLESS = (0, 0xFFFFFFFF)
_DATA_BASE = 1  # of a track fragment's flags: its samples are counted from the file's beginning


class Packet(Protocol):
    """What is asked of PyAV's packets."""

    pos: int | None
    pts: int | None

    def __bytes__(self) -> bytes:
        """What the decoder gets."""
        ...


class Recent(Protocol):
    """The input's last bytes, by their offset in what the child reads."""

    def recent(self, start: int, end: int) -> bytes:
        """Those from `start` to `end`, as far as they are still there; none if `start` isn't."""
        ...

    def recent_before(self, marker: bytes, end: int) -> int:
        """Where `marker` last begins before `end`, -1 if it isn't there."""
        ...


class SeekPoints:
    """Says where a new child could begin, every `interval_bytes` or so."""

    def __init__(
        self, recent: Recent, kind: Kind, *, is_fragmented: bool, interval_bytes: int, restart: Restart | None,
        on_point: Callable[[Restart], None],
    ) -> None:  # fmt: skip
        """Look into `recent`; what is decoded is a file of `kind`, itself gone on with from `restart`."""
        self._recent = recent
        self._kind = kind
        self._is_fragmented = is_fragmented
        self._goes_by_index = kind == MP4 and not is_fragmented
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
        self._begun: tuple[int, int, int] | None = None
        self._begun_packets = 0

    def begin_again(self) -> None:
        """The recording went on in another form: what was heard of the one before tells nothing."""
        self._begun = None

    def packet(self, packet: Packet, heard: int, made: int, rate_hz: int, source: Source | None) -> None:
        """Look at what is decoded next, after `heard` samples of `rate_hz`, which follow `made` of the output."""
        if self._is_off or packet.pos is None or packet.pos < 0:
            return
        is_fresh, self._latest = packet.pos > self._latest, max(self._latest, packet.pos)
        if self._head_bytes < 0:
            self._measure(packet)
        if self._next_at < 0:
            self._next_at = packet.pos + self._interval_bytes
        if not is_fresh or not rate_hz or source is None or self._is_off:
            self._begun_packets += 1
        elif self._begun is None:
            self._begin(packet, heard)
        else:
            self._begun_packets += 1
            warm = self._begun_packets >= WARM_UP_PACKETS and heard - self._begun[2] >= rate_hz * WARM_UP_S
            if warm:
                self._tell(packet.pos, heard, made, rate_hz, source)

    def _begin(self, packet: Packet, heard: int) -> None:
        assert packet.pos is not None  # noqa: S101 -- callers have looked
        if packet.pos < self._next_at:
            return
        boundary = self._boundary(packet, packet.pos)
        if boundary is not None:
            self._begun, self._begun_packets = (boundary, packet.pts or 0, heard), 0

    def _tell(self, pos: int, heard: int, made: int, rate_hz: int, source: Source) -> None:
        assert self._begun is not None  # noqa: S101 -- callers have looked
        boundary, pts, _ = self._begun
        # Only where as many samples went in as make whole ones of the output does a fresh resampler give the same.
        step = rate_hz // math.gcd(rate_hz, SAMPLE_RATE_HZ)
        skip = -heard % step
        self._on_point(Restart(
            source=source, head_bytes=self._head_bytes, offset_bytes=self._position(boundary),
            anchor_bytes=self._position(pos), skip_samples=skip, rate_hz=rate_hz,
            output_samples=made + (heard + skip) * SAMPLE_RATE_HZ // rate_hz,
            end_bytes=self._end_bytes, pts=pts if self._goes_by_index else None, serial=int.from_bytes(self._serial),
        ))  # fmt: skip
        self._begun, self._next_at = None, pos + self._interval_bytes

    def _position(self, pos: int) -> int:
        return pos if self._restart is None else self._restart.position(pos)

    def _measure(self, packet: Packet) -> None:
        """What comes before the first packet: all that a demuxer must see again."""
        assert packet.pos is not None  # noqa: S101 -- callers have looked
        pos, recent = packet.pos, self._recent
        self._head_bytes = pos
        match self._kind.name:
            case MP3.name:
                self._head_bytes = 0  # each frame says all there is to say
            case WAV.name:
                self._is_off = not self._has_found_data(pos)
            case OGG.name:
                self._serial = recent.recent(pos, pos + SERIAL.stop)[SERIAL]
            case WEBM.name | MP4.name if self._kind == WEBM or self._is_fragmented:
                self._head_bytes = self._boundary(packet, pos) or -1
        self._is_off |= not 0 <= self._head_bytes <= MOST_HEAD_BYTES

    def _has_found_data(self, pos: int) -> bool:
        """Whether a WAV's samples begin at `pos`, as they do unless it holds something that is no PCM."""
        before = self._recent.recent(pos - 8, pos)
        size = int.from_bytes(before[4:], "little")
        if size == _ENDLESS[1]:  # or RF64, whose true size stands at its beginning
            first = self._recent.recent(0, 36)
            size = int.from_bytes(first[28:36], "little") if first[12:16] == b"ds64" else 0
        self._end_bytes = pos + size if size not in _ENDLESS else 0
        return before[:4] == b"data"

    def _boundary(self, packet: Packet, pos: int) -> int | None:
        """Where a demuxer that knows the file's beginning can go on to come to `packet`."""
        match self._kind.name:
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
