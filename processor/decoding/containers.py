"""Detects a recording's container by magic numbers alone, whatever a client called it, and reads its headers. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, NamedTuple

HEAD_BYTES = 128
"""Enough for every magic number below and most WAV headers; a browser's first chunk has more."""

SCAN_BYTES = 1_048_576
"""How far an MP4's index is looked for before the media data; free space and cover art before it are smaller."""

Peek = Callable[[int], bytes]
"""The first so many bytes of the file; fewer only at its end."""


class RefusedError(Exception):
    """This recording cannot be decoded; the message is for a person."""


class Container(NamedTuple):
    """A supported container: its name, and the one demuxer that may read it."""

    name: str
    demuxer: str


WEBM = Container("webm", "matroska")
OGG = Container("ogg", "ogg")
MP4 = Container("mp4", "mov")
MP3 = Container("mp3", "mp3")
FLAC = Container("flac", "flac")
WAV = Container("wav", "wav")

_MAGIC = ((b"\x1aE\xdf\xa3", WEBM), (b"OggS", OGG), (b"fLaC", FLAC), (b"ID3", MP3))

_UNKNOWN_SIZE = 0x7FFFFFFF  # recorders write it while they do not know the size, or the largest number that exists

_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"))

# Files that clients send by mistake; their name says more than "unknown".
_OTHERS = (
    (b"#EXTM3U", "a playlist"), (b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"), (b"{", "JSON"),
    (b"\x1f\x8b", "a gzip archive"), (b"PK\x03\x04", "a ZIP archive"), (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"), (b"\xff\xd8\xff", "a picture"), (b"GIF8", "a picture"), (b"FORM", "AIFF"),
    (b"ffconcat", "a playlist"),
)  # fmt: skip

# ID3v2.4, 3.1: ten bytes of header, whose last four have seven bits of the tag's size each.
_ID3_HEADER_BYTES = 10
_ID3_FOOTER_FLAG = 0x10

# ISO 11172-3, 2.4.1.3: version, layer III, sample rate and mode of a frame; versions 2 and 2.5 halve the rates.
_MP3_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MP3_SAMPLES_PER_FRAME = {3: 1152, 2: 576, 0: 576}
_MP3_SIDE_BYTES = {(3, False): 32, (3, True): 17, (2, False): 17, (2, True): 9, (0, False): 17, (0, True): 9}
_MP3_HEADER_BYTES, _MONO, _LAYER_3 = 4, 3, 1

_XING_FRAMES_FLAG = 1  # of a Xing header: the number of frames follows it
_VBRI_AT, _VBRI_FRAMES_AT = 32, 14  # after the frame's header, and after the name
_MP3_NEEDED_BYTES = 64


def detect_container(head: bytes) -> Container:
    """The container that `head`, at least `HEAD_BYTES` or the whole file, begins with.

    Raises:
        RefusedError: if it is no supported one.
    """
    for magic, container in _MAGIC:
        if head.startswith(magic):
            return container
    if head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE":
        return WAV
    if head[4:8] in _BOXES:
        return MP4
    if _is_mpeg_audio(head):
        return MP3
    raise RefusedError(f"not a recording that is taken: {_likeness(head)}")


def mp4_index_end(head: bytes) -> int | None:
    """Where an MP4's index ends, if it comes before the media; 0 if it does not. None: `head` is too short to say."""
    at = 0
    while at + 16 <= len(head):
        size, name = int.from_bytes(head[at : at + 4]), head[at + 4 : at + 8]
        if size == 1:  # the true size follows in 64 bits
            size = int.from_bytes(head[at + 8 : at + 16])
        if name == b"mdat" or size < 8:  # noqa: PLR2004 -- a box's own header; 0 means "to the end of the file"
            return 0
        at += size
        if name == b"moov":
            return at
    return 0 if at > SCAN_BYTES else None


def has_mp4_index(file: IO[bytes]) -> bool:
    """Whether an MP4 has a whole index anywhere; leaves `file` at its beginning."""
    length = file.seek(0, 2)
    at, size, name = 0, 8, b""
    while name != b"moov" and size >= 8:  # noqa: PLR2004 -- a box's own header
        file.seek(at)
        header = file.read(16)
        size, name = int.from_bytes(header[:4]), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16])
        at += size
    file.seek(0)
    return name == b"moov" and at <= length


def wav_duration_s(head: bytes) -> float:
    """A WAV's length by its header; 0 if `head` does not state it, as after a write to a pipe."""
    at, byte_rate = 12, 0
    while at + 8 <= len(head):
        name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if name == b"fmt ":
            byte_rate = int.from_bytes(head[at + 16 : at + 20], "little")
        if name == b"data":
            return size / byte_rate if byte_rate and size < _UNKNOWN_SIZE else 0.0
        at += 8 + size + size % 2
    return 0.0


def mp3_duration_s(peek: Peek) -> float:
    """An MP3's length by the number of frames in its first one (Xing, Info, VBRI header); 0 without such a header.

    Some hundredths of a second more than the audible part: it includes the encoder's own delay.
    """
    at = _after_tags(peek)
    frame = peek(at + _MP3_NEEDED_BYTES)[at:]
    if len(frame) < _MP3_NEEDED_BYTES or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:  # noqa: PLR2004 -- the sync word
        return 0.0
    version, layer, rate = frame[1] >> 3 & 3, frame[1] >> 1 & 3, frame[2] >> 2 & 3
    if version not in _MP3_RATES_HZ or layer != _LAYER_3 or rate == 3:  # noqa: PLR2004 -- reserved
        return 0.0
    is_mono = frame[3] >> 6 == _MONO
    frames = _stated_frames(frame[_MP3_HEADER_BYTES:], _MP3_SIDE_BYTES[version, is_mono])
    return frames * _MP3_SAMPLES_PER_FRAME[version] / _MP3_RATES_HZ[version][rate]


def _is_mpeg_audio(head: bytes) -> bool:
    """A frame header of layer 3, 2 or 1 with a bit rate and a sample rate that exist."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004 -- eleven bits of sync
        return False
    version, layer, rates = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2]
    return version != 1 and layer != 0 and rates >> 4 not in {0, 15} and rates >> 2 & 3 != 3  # noqa: PLR2004


def _likeness(head: bytes) -> str:
    if not head:
        return "it is empty"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, name in _OTHERS:
        if text.startswith(magic.lower()):
            return f"begins like {name}"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):  # noqa: PLR2004 -- printable ASCII
        return "begins like text"
    return "begins like no container that is known"


def _after_tags(peek: Peek) -> int:
    """Where the first frame begins, after one ID3 tag, or several as some editors leave them."""
    at = 0
    while at < SCAN_BYTES:
        tag = peek(at + _ID3_HEADER_BYTES)[at:]
        if len(tag) < _ID3_HEADER_BYTES or not tag.startswith(b"ID3"):
            break
        size = 0
        for byte in tag[6:]:
            size = size << 7 | byte & 0x7F
        at += _ID3_HEADER_BYTES + size + (_ID3_HEADER_BYTES if tag[5] & _ID3_FOOTER_FLAG else 0)
    return min(at, SCAN_BYTES)


def _stated_frames(body: bytes, side_bytes: int) -> int:
    xing = body[side_bytes:]
    if xing[:4] in {b"Xing", b"Info"}:
        return int.from_bytes(xing[8:12]) if int.from_bytes(xing[4:8]) & _XING_FRAMES_FLAG else 0
    vbri = body[_VBRI_AT:]
    return int.from_bytes(vbri[_VBRI_FRAMES_AT : _VBRI_FRAMES_AT + 4]) if vbri[:4] == b"VBRI" else 0
