"""Audio for the tests of speech: the bundled sentences, pauses and noise."""

import wave

import numpy as np
import soxr

from tests.support.tree import ROOT

SPEECH = ROOT / "speech"
SENTENCES = sorted(SPEECH.glob("*.wav"))
RATE_HZ = 16_000


def sentence(index: int, rate_hz: int = RATE_HZ) -> bytes:
    """Return one bundled sentence as s16le PCM."""
    with wave.open(str(SENTENCES[index])) as reader:
        pcm: bytes = reader.readframes(reader.getnframes())
    if rate_hz == RATE_HZ:
        return pcm
    return bytes(soxr.resample(np.frombuffer(pcm, "<i2"), RATE_HZ, rate_hz).astype("<i2").tobytes())


def silence(seconds: float, rate_hz: int = RATE_HZ) -> bytes:
    """Return digital silence."""
    return bytes(2 * int(seconds * rate_hz))


def noise(seconds: float, level: float, seed: int = 0, rate_hz: int = RATE_HZ) -> bytes:
    """Return white noise whose standard deviation is that part of full scale."""
    samples = np.random.default_rng(seed).standard_normal(int(seconds * rate_hz)) * level * 32_767
    return bytes(np.clip(samples, -32_768, 32_767).astype("<i2").tobytes())


def conversation(rate_hz: int = RATE_HZ) -> bytes:
    """Return the five sentences with pauses: 33 s that hold every kind of boundary but the cuts."""
    return b"".join(sentence(index, rate_hz) + silence(1.5, rate_hz) for index in range(len(SENTENCES)))
