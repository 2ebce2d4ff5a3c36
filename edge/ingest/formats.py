"""The format of a recording, by its content type and its first bytes. No input or output."""

from __future__ import annotations

import codecs
from collections.abc import Mapping

from edge import errors
from edge.errors import ApiError
from edge.session.parameters import SPEECH_OPTIONS
from eventlog.events import CONTAINER, LINEAR16

SNIFFED_BYTES = 64
"""Enough to distinguish a container, and text, from samples."""

_RAW = frozenset({"audio/l16", "audio/pcm", "audio/x-pcm", "audio/raw", "audio/x-raw"})
_UNSPECIFIC = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
"""Types that say nothing: curl's for every file of unknown type, and for every `--data-binary`."""
_CONTAINERS = ("audio/", "video/", "application/ogg", "application/mp4")

_MAGIC = (b"\x1aE\xdf\xa3", b"\x1fC\xb6u", b"OggS", b"RIFF", b"RF64", b"fLaC", b"ID3")
"""WebM, a cluster of it without its head (a recorder's later piece), Ogg, WAV, large WAV, FLAC, tagged MP3."""
_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide"})
"""What an MP4 begins with, after four bytes of length."""

OPTIONS = (*SPEECH_OPTIONS, "sample_rate", "encoding")
"""Options along with a recording; names and values are those of the WebSocket's query string."""


def session_options(options: Mapping[str, str], content_type: str, head: bytes) -> dict[str, str]:
    """Make the options of the session for a recording that begins with `head`.

    `encoding` decides if it is given; else the content type; else the first `SNIFFED_BYTES`: anything but a container
    or text counts as raw samples.

    Raises:
        ApiError: `invalid_request` if the content type is not one of a recording.
    """
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    given = {name: options[name] for name in OPTIONS if name in options}
    if "encoding" not in given:
        given["encoding"] = LINEAR16 if _is_raw(kind, head[:SNIFFED_BYTES]) else CONTAINER
    if kind in _RAW:
        content_options = dict(_pairs(rest))
        for name, alias in (("sample_rate", "rate"), ("channels", "channels")):
            if alias in content_options:
                given.setdefault(name, content_options[alias])
    return given


def _is_raw(kind: str, head: bytes) -> bool:
    if kind in _RAW:
        return True
    if kind in _UNSPECIFIC:
        return not (_is_container(head) or _is_text(head))
    if kind.startswith(_CONTAINERS):
        return False
    raise ApiError(errors.INVALID_REQUEST, f"a recording's content type is audio/…, not {kind[:80]}")


def _is_container(head: bytes) -> bool:
    return head.startswith(_MAGIC) or head[4:8] in _BOXES or _is_mp3(head)


def _is_mp3(head: bytes) -> bool:
    """Whether a frame header of MPEG layer III comes first, with a valid bit rate and sample rate."""
    if len(head) < 4 or head[0] != 0xFF:  # noqa: PLR2004 - ISO 11172-3, 2.4.1.3, as all that follows
        return False
    return head[1] & 0xE6 == 0xE2 and head[2] >> 4 not in {0, 15} and head[2] & 0x0C != 0x0C  # noqa: PLR2004


def _is_text(head: bytes) -> bool:
    """Whether it is text: an error page, a playlist, JSON; samples are hardly ever printable throughout."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # which may end amid a character
    except UnicodeDecodeError:
        return False
    return len(head) > 8 and all(character.isprintable() or character in "\t\r\n" for character in text)  # noqa: PLR2004


def _pairs(rest: str) -> list[tuple[str, str]]:
    found = []
    for piece in rest.split(";"):
        name, _, value = piece.partition("=")
        found.append((name.strip().lower(), value.strip().strip('"')))
    return found
