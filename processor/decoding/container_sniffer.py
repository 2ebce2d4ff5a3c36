"""Which container some bytes begin with: pure, by magic numbers alone, whatever a client called them."""

from __future__ import annotations

from typing import IO, NamedTuple

from processor.decoding.messages import RefusedError

HEAD_BYTES = 128
"""Enough for every magic number below and most WAV headers; a browser's first chunk has more."""

SCAN_BYTES = 1_048_576
"""How far an MP4's index is looked for before the media data; free space and cover art before it are smaller."""


class Kind(NamedTuple):
    """A container that is taken: its name, and the one demuxer that may look at it."""

    name: str
    demuxer: str


WEBM = Kind("webm", "matroska")
OGG = Kind("ogg", "ogg")
MP4 = Kind("mp4", "mov")
MP3 = Kind("mp3", "mp3")
FLAC = Kind("flac", "flac")
WAV = Kind("wav", "wav")

_MAGIC = ((b"\x1aE\xdf\xa3", WEBM), (b"OggS", OGG), (b"fLaC", FLAC), (b"ID3", MP3))

_UNKNOWN_SIZE = 0x7FFFFFFF  # what recorders write that don't know yet, or the largest that is

_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"))

# What people send by mistake; naming it tells them more than "unknown".
_OTHERS = (
    (b"#EXTM3U", "a playlist"), (b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"), (b"{", "JSON"),
    (b"\x1f\x8b", "a gzip archive"), (b"PK\x03\x04", "a ZIP archive"), (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"), (b"\xff\xd8\xff", "a picture"), (b"GIF8", "a picture"), (b"FORM", "AIFF"),
    (b"ffconcat", "a playlist"),
)  # fmt: skip


def sniff(head: bytes) -> Kind:
    """The container that `head`, at least `HEAD_BYTES` or all there is, begins with.

    Raises:
        RefusedError: if it is none that is taken.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE":
        return WAV
    if head[4:8] in _BOXES:
        return MP4
    if _is_mpeg_audio(head):
        return MP3
    raise RefusedError(f"not a recording that is taken: {_likeness(head)}")


def index_end(head: bytes) -> int | None:
    """Where an MP4's index ends, if it comes before the media; 0 if it doesn't. None: `head` doesn't tell yet."""
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


def has_index(file: IO[bytes]) -> bool:
    """Whether there is a whole index anywhere in an MP4; leaves `file` at its beginning."""
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
    """How long a WAV says that it is, as far as `head` tells; 0 if it doesn't, as when it was written to a pipe."""
    at, byte_rate = 12, 0
    while at + 8 <= len(head):
        name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if name == b"fmt ":
            byte_rate = int.from_bytes(head[at + 16 : at + 20], "little")
        if name == b"data":
            return size / byte_rate if byte_rate and size < _UNKNOWN_SIZE else 0.0
        at += 8 + size + size % 2
    return 0.0


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
