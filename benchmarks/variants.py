"""Speech made harder by script: other rates, rooms, telephones, noise, and recordings joined in other ways.

Each function takes 16 kHz samples and returns new ones, the same at every run.
"""

from collections.abc import Sequence

import av
import numpy as np

from benchmarks.signals import (
    RATE_HZ,
    Samples,
    at_rms,
    band,
    colored_noise,
    convolved,
    from_pcm,
    random_for,
    rms,
    to_pcm,
)

_ROOM_S = 0.4
"""Reverberation time of a furnished office: by then the echo is 60 dB down."""

_MU = 255.0  # G.711's companding in North America and Japan
_TELEPHONE_HZ = (300.0, 3_400.0)
_TELEPHONE_LEVELS = 128  # of each sign

_BLOCK_SAMPLES = RATE_HZ // 100
_SILENCE_DB = -35.0
"""Blocks of 10 ms this far below the loudest are pauses; the quietest consonants of the bundled readers lie above."""


def at_tempo(samples: Samples, tempo: float) -> Samples:
    """Return speech `tempo` times as fast, at its own pitch, by FFmpeg's `atempo`."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE_HZ, format="s16", layout="mono")
    stretch = graph.add("atempo", f"{tempo}")
    sink = graph.add("abuffersink")
    source.link_to(stretch)
    stretch.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.frombuffer(to_pcm(samples), "<i2")[None, :], format="s16", layout="mono")
    frame.sample_rate = RATE_HZ
    source.push(frame)
    source.push(None)
    parts: list[bytes] = []
    while True:
        try:
            pulled = sink.pull()
        except (EOFError, BlockingIOError):
            return from_pcm(b"".join(parts))
        if isinstance(pulled, av.AudioFrame):
            parts.append(pulled.to_ndarray().astype("<i2").tobytes())


def in_room(samples: Samples, reverberation_s: float = _ROOM_S) -> Samples:
    """Return speech as a microphone across a room takes it: early reflections and a tail that dies away."""
    random = random_for("room")
    time_s = np.arange(round(reverberation_s * RATE_HZ)) / RATE_HZ
    tail = random.standard_normal(len(time_s)) * 10 ** (-3 * time_s / reverberation_s)
    response = 0.05 * tail * (time_s > 0.01)  # noqa: PLR2004 -- 10 ms: the first wall is more than a metre away
    response[0] = 1.0
    return at_rms(convolved(samples, response), rms(samples))


def by_telephone(samples: Samples) -> Samples:
    """Return speech through a telephone: 300 to 3,400 Hz at 8 kHz, companded to eight bits, back at 16 kHz."""
    narrow = band(samples, *_TELEPHONE_HZ)[::2]
    companded = np.sign(narrow) * np.log1p(_MU * np.abs(np.clip(narrow, -1, 1))) / np.log1p(_MU)
    levels = np.round(companded * _TELEPHONE_LEVELS) / _TELEPHONE_LEVELS
    expanded = np.sign(levels) * np.expm1(np.abs(levels) * np.log1p(_MU)) / _MU
    spectrum = np.fft.rfft(expanded)
    doubled = np.zeros(len(expanded) + 1, complex)
    doubled[: len(spectrum)] = spectrum
    return 2 * np.fft.irfft(doubled, 2 * len(expanded))


def under(samples: Samples, sound: Samples, signal_to_noise_db: float) -> Samples:
    """Return the samples with a sound beneath, repeated if it is shorter; powers are means over the whole."""
    repeats = -(-len(samples) // len(sound))
    beneath = np.tile(sound, repeats)[: len(samples)]
    return samples + at_rms(beneath, rms(samples) / 10 ** (signal_to_noise_db / 20))


def under_noise(samples: Samples, signal_to_noise_db: float, exponent: float = 0.0) -> Samples:
    """Return the samples under white (exponent 0) or pink (1) noise."""
    noise = colored_noise(random_for(f"noise {exponent} {len(samples)}"), len(samples) / RATE_HZ, exponent)
    return under(samples, noise, signal_to_noise_db)


def babble(talkers: Sequence[Samples]) -> Samples:
    """Return several recordings at once, at equal strength, each shifted by a part of its length."""
    length = max(map(len, talkers))
    mixed = np.zeros(length)
    for number, talker in enumerate(talkers):
        mixed += at_rms(np.resize(np.roll(talker, number * len(talker) // len(talkers)), length), 0.05)
    return mixed


def quieter(samples: Samples, gain_db: float) -> Samples:
    """Return the samples at another level."""
    return samples * 10 ** (gain_db / 20)


def joined(recordings: Sequence[Samples], pause_s: float) -> Samples:
    """Return recordings one after the other, with silence after each, or overlapping where `pause_s` is negative."""
    pause = round(pause_s * RATE_HZ)
    end, parts = 0, []
    for recording in recordings:
        start = max(0, end)
        parts.append((start, recording))
        end = start + len(recording) + pause
    mixed = np.zeros(max(end, *(start + len(recording) for start, recording in parts)))
    for start, recording in parts:
        mixed[start : start + len(recording)] += recording
    return mixed


def sounding(samples: Samples, silence_db: float = _SILENCE_DB) -> list[tuple[int, int]]:
    """Return the stretches, first and last sample, that are louder than a pause, in blocks of 10 ms."""
    blocks = samples[: len(samples) // _BLOCK_SAMPLES * _BLOCK_SAMPLES].reshape(-1, _BLOCK_SAMPLES)
    levels = np.sqrt(np.mean(blocks**2, axis=1))
    loud = np.concatenate([[False], levels > levels.max() * 10 ** (silence_db / 20), [False]])
    edges = np.flatnonzero(loud[1:] != loud[:-1]) * _BLOCK_SAMPLES
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def without_pauses(samples: Samples, longest_s: float = 0.12) -> Samples:
    """Return the samples with every pause cut to at most `longest_s`, half of it at each side."""
    half = round(longest_s * RATE_HZ / 2)
    kept = np.zeros(len(samples), bool)
    for start, end in sounding(samples):
        kept[max(0, start - half) : end + half] = True
    return samples[kept]
