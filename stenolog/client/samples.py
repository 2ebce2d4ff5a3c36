"""Samples of any encoding, rate and number of channels to 16-bit PCM."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stenolog.client.wav import Header

Floats = NDArray[np.float32]
_FULL_SCALE = 32_768.0  # one more than the largest 16-bit sample: what numpy, soxr and ffmpeg scale by


def converted(raw: Iterator[bytes], header: "Header", channels: int, sample_rate_hz: int) -> Iterator[bytes]:
    """Yields the samples of `raw`, whole frames as the header describes them, as little-endian 16-bit PCM."""
    resampler = None
    if header.sample_rate_hz != sample_rate_hz:
        resampler = soxr.ResampleStream(header.sample_rate_hz, sample_rate_hz, channels, dtype="float32")
    for block in raw:
        frames = _mixed(_floats(block, header.encoding).reshape(-1, header.channels), channels)
        yield _pcm(frames if resampler is None else resampler.resample_chunk(frames))
    if resampler is not None:
        yield _pcm(resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True))


def _floats(block: bytes, encoding: str) -> Floats:
    match encoding:
        case "i24":
            padded = np.zeros((len(block) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(block, np.uint8).reshape(-1, 3)
            return _scaled(padded.reshape(-1).view("<i4"), 2.0**31)
        case "u1":
            return _scaled(np.frombuffer(block, np.uint8).astype(np.int16) - 128, 2.0**7)
        case "alaw":
            return _ALAW[np.frombuffer(block, np.uint8)]
        case "mulaw":
            return _MULAW[np.frombuffer(block, np.uint8)]
        case "<i2" | "<i4":
            samples = np.frombuffer(block, encoding)
            return _scaled(samples, 2.0 ** (8 * samples.itemsize - 1))
        case _:
            # A float file may hold anything, NaN too.
            return np.nan_to_num(np.frombuffer(block, encoding).astype(np.float32), posinf=1.0, neginf=-1.0)


def _scaled(samples: NDArray[Any], full_scale: float) -> Floats:
    return (samples / full_scale).astype(np.float32)


def _mixed(frames: Floats, channels: int) -> Floats:
    return frames[:, :channels] if channels > 1 else frames.mean(axis=1, keepdims=True, dtype=np.float32)


def _pcm(frames: Floats) -> bytes:
    scaled = np.rint(np.clip(frames * _FULL_SCALE, -_FULL_SCALE, _FULL_SCALE - 1))
    pcm: bytes = scaled.astype("<i2").tobytes()
    return pcm


def _alaw() -> Floats:
    """The 256 values of ITU-T G.711's A-law."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code & 0x70) >> 4, code & 0x0F
    size = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))
    return _scaled(np.where(code & 0x80, size, -size), _FULL_SCALE)


def _mulaw() -> Floats:
    """The 256 values of ITU-T G.711's µ-law."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    size = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return _scaled(np.where(code & 0x80, -size, size), _FULL_SCALE)


_ALAW, _MULAW = _alaw(), _mulaw()
