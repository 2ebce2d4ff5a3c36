"""WAV files of every kind, made here so that what a test reads is known to the sample."""

import struct

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]


def tone(rate_hz: int, seconds: float = 0.5, channels: int = 1) -> Samples:
    """A 440 Hz tone at half of full scale; the second channel is silent."""
    times = np.arange(int(rate_hz * seconds)) / rate_hz
    frames = np.zeros((len(times), channels))
    frames[:, 0] = 0.5 * np.sin(2 * np.pi * 440 * times)
    return frames


def riff(kind: int, bits: int, rate_hz: int, channels: int, data: bytes, *, size: int | None = None) -> bytes:
    """A WAV file around `data`; `size` overrules what the header says of its length."""
    frame_bytes = channels * bits // 8
    described = struct.pack("<HHIIHH", kind, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, bits)
    length = len(data) if size is None else size
    body = b"fmt " + struct.pack("<I", 16) + described + b"junk" + struct.pack("<I", 3) + b"abc\0"
    body += b"data" + struct.pack("<I", length) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def encoded(frames: Samples, name: str) -> tuple[int, int, bytes]:
    """The samples as format number, bits and bytes."""
    match name:
        case "u8":
            return 1, 8, np.rint(frames * 127 + 128).astype("u1").tobytes()
        case "i16":
            return 1, 16, np.rint(frames * 32767).astype("<i2").tobytes()
        case "i24":
            wide = np.rint(frames * 8_388_607).astype("<i4").reshape(-1)
            return 1, 24, wide.view("u1").reshape(-1, 4)[:, :3].tobytes()
        case "i32":
            return 1, 32, np.rint(frames * 2_147_483_647).astype("<i4").tobytes()
        case "f32":
            return 3, 32, frames.astype("<f4").tobytes()
        case _:
            return 3, 64, frames.astype("<f8").tobytes()


def wav(rate_hz: int, name: str = "i16", channels: int = 1, seconds: float = 0.5) -> bytes:
    """A WAV file of the tone."""
    kind, bits, data = encoded(tone(rate_hz, seconds, channels), name)
    return riff(kind, bits, rate_hz, channels, data)
