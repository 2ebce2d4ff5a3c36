"""Files that are broken, lie or attack, each small."""

import gzip
import random
import struct
from functools import cache

from tests.integration.decoding.recordings import boxes, recording

_MAGIC = {
    "webm": b"\x1aE\xdf\xa3", "ogg": b"OggS", "flac": b"fLaC", "mp3 tag": b"ID3", "mpeg frame": b"\xff\xfb\x90\x00",
    "wav": b"RIFF\xff\xff\xff\xffWAVE", "mp4": b"\x00\x00\x00\x20ftypisom", "rf64": b"RF64\xff\xff\xff\xffWAVE",
}  # fmt: skip


def _noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _box(name: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", len(body) + 8 if size is None else size) + name + body


def _nested(name: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = _box(name, data)
    return data


def _wav(rate_hz: int, channels: int, bits: int, data: bytes, tag: int = 1) -> bytes:
    frame = max(1, channels * bits // 8)
    head = struct.pack("<HHIIHH", tag, channels, rate_hz, (rate_hz * frame) & 0xFFFFFFFF, frame & 0xFFFF, bits)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(head)) + head + b"data\xff\xff\xff\xff" + data


NEVER_TAKEN = {
    "nothing": b"",
    "one byte": b"R",
    "text": b"Dear sir or madam, please find attached my recording of the meeting. " * 20,
    "HTML": b"<!DOCTYPE html><html><body>404</body></html>" * 20,
    "JSON": b'{"error": "not found"}' * 20,
    "an HLS playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n" * 5,
    "a concat script": b"ffconcat version 1.0\nfile '/etc/passwd'\n" * 10,
    "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n" * 5,
    "a gzip bomb": gzip.compress(bytes(50_000_000)),
    "a picture": b"\x89PNG\r\n\x1a\n" + _noise(1, 500),
    "zeros": bytes(100_000),
    "noise": _noise(2, 100_000),
    "boxes in boxes": _box(b"ftyp", b"isom\0\0\2\0isom") + _nested(b"moov", 20_000),
    "tracks in tracks": _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"moov", _nested(b"trak", 20_000)),
    "an index without end": _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"moov", bytes(100), size=0x7FFFFFFF),
    "a table without end": _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"moov", _box(b"trak", _box(b"mdia", _box(
        b"minf", _box(b"stbl", _box(b"stsz", b"\0\0\0\0\0\0\0\0\xff\xff\xff\xff" + bytes(50), size=0x7FFFFFF0)))))),
    "media without an index": _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"mdat", _noise(3, 50_000)),
    "a WAV of a million channels": _wav(16_000, 65_535, 16, bytes(1_000)),
    "a WAV at 1 Hz": _wav(1, 1, 8, bytes(100_000)),
    "a WAV at 4 GHz": _wav(0xFFFFFFFF, 1, 16, bytes(100_000)),
    "a WAV without bits": _wav(16_000, 1, 0, bytes(1_000)),
    "a WAV in a codec that isn't taken": _wav(16_000, 1, 4, bytes(10_000), tag=0x11),
    "a WAV without samples": _wav(16_000, 1, 16, b""),
    "a webm element without end": _MAGIC["webm"] + b"\x01\xff\xff\xff\xff\xff\xff\xfe" + _noise(4, 2_000),
    "a flac of a huge picture": b"fLaC\x06\xff\xff\xff" + _noise(5, 2_000),
    "a tag of 256 MiB": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + _noise(6, 2_000),
} | {f"noise after the magic of {name}": magic + _noise(len(name), 20_000) for name, magic in _MAGIC.items()
     if name not in {"wav", "rf64", "mpeg frame", "mp3 tag"}}  # fmt: skip

# Of these something may be decoded, since noise holds what looks like a frame; nothing may break.
MAY_BE_TAKEN = {f"noise after the magic of {name}": _MAGIC[name] + _noise(len(name), 200_000)
                for name in ("wav", "rf64", "mpeg frame", "mp3 tag")}  # fmt: skip


@cache
def cut_off(name: str, pieces: int = 12) -> tuple[bytes, ...]:
    """A recording cut off at its structure's joints, or at equal distances, and one byte after each."""
    data = recording(name)
    if name.startswith("mp4"):
        joints = [end for _, _, end in boxes(data)][:-1]
        joints = joints[:: max(1, len(joints) // pieces)]
    elif name.startswith("webm"):
        joints = [at for at in range(len(data) - 4) if data[at : at + 4] == b"\x1fC\xb6u"]
        joints = joints[:: max(1, len(joints) // pieces)]
    else:
        joints = []
    joints += [len(data) * piece // pieces for piece in range(1, pieces)] + [8, 40, 100, 300]
    return tuple(data[: joint + more] for joint in sorted(joints) for more in (0, 1))


def damaged(data: bytes, seed: int) -> bytes:
    """A file with some of its bytes changed, after its first hundred."""
    chance = random.Random(seed)
    broken = bytearray(data)
    for _ in range(max(1, len(data) // 500)):
        broken[chance.randrange(min(100, len(data) - 1), len(data))] = chance.randrange(256)
    return bytes(broken)
