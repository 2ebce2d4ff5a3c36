"""How long an MP3 says that it is, before any of it is decoded. No input or output of its own."""

from __future__ import annotations

from collections.abc import Callable

from processor.decoding.container_sniffer import SCAN_BYTES

Peek = Callable[[int], bytes]
"""The first so many bytes of the file; fewer only at its end."""

# ID3v2.4, 3.1: ten bytes of header, whose last four have seven bits of the tag's size each.
_TAG_BYTES = 10
_FOOTER_FLAG = 0x10

# ISO 11172-3, 2.4.1.3: version, layer III, sample rate and mode of a frame; versions 2 and 2.5 halve the rates.
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_SAMPLES_PER_FRAME = {3: 1152, 2: 576, 0: 576}
_SIDE_BYTES = {(3, False): 32, (3, True): 17, (2, False): 17, (2, True): 9, (0, False): 17, (0, True): 9}
_HEADER_BYTES, _MONO, _LAYER_3 = 4, 3, 1

_FRAMES_FLAG = 1  # of a Xing header: the number of frames follows it
_VBRI_AT, _VBRI_FRAMES_AT = 32, 14  # after the frame's header, and after the name
_NEEDED_BYTES = 64


def mp3_duration_s(peek: Peek) -> float:
    """By the number of frames in its first one, where encoders leave it (Xing, Info, VBRI); 0 if it isn't there.

    Some hundredths of a second more than is heard: the encoder's own delay is in it.
    """
    at = _after_tags(peek)
    frame = peek(at + _NEEDED_BYTES)[at:]
    if len(frame) < _NEEDED_BYTES or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:  # noqa: PLR2004 -- the sync word
        return 0.0
    version, layer, rate = frame[1] >> 3 & 3, frame[1] >> 1 & 3, frame[2] >> 2 & 3
    if version not in _RATES_HZ or layer != _LAYER_3 or rate == 3:  # noqa: PLR2004 -- reserved
        return 0.0
    is_mono = frame[3] >> 6 == _MONO
    frames = _frames(frame[_HEADER_BYTES:], _SIDE_BYTES[version, is_mono])
    return frames * _SAMPLES_PER_FRAME[version] / _RATES_HZ[version][rate]


def _after_tags(peek: Peek) -> int:
    """Where the first frame is; one tag, or several as some editors leave them, come before it."""
    at = 0
    while at < SCAN_BYTES:
        tag = peek(at + _TAG_BYTES)[at:]
        if len(tag) < _TAG_BYTES or not tag.startswith(b"ID3"):
            break
        size = 0
        for byte in tag[6:]:
            size = size << 7 | byte & 0x7F
        at += _TAG_BYTES + size + (_TAG_BYTES if tag[5] & _FOOTER_FLAG else 0)
    return min(at, SCAN_BYTES)


def _frames(body: bytes, side_bytes: int) -> int:
    xing = body[side_bytes:]
    if xing[:4] in {b"Xing", b"Info"}:
        return int.from_bytes(xing[8:12]) if int.from_bytes(xing[4:8]) & _FRAMES_FLAG else 0
    vbri = body[_VBRI_AT:]
    return int.from_bytes(vbri[_VBRI_FRAMES_AT : _VBRI_FRAMES_AT + 4]) if vbri[:4] == b"VBRI" else 0
