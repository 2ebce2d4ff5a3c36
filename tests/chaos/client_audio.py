"""The clients' audio, and the facts that an undisturbed run states of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np

from eventlog.codec import decode_fact
from eventlog.events import Fact
from eventlog.positions import Position
from processor.speech import SegmenterSettings
from stenolog.local.demo import recordings, samples
from tests.chaos.plan import RATE_HZ, SessionPlan
from tests.support.deployment import expected
from tests.support.pcm import Samples, Story

END_SAMPLES = RATE_HZ
"""Silence after the last word: longer than the pause that ends an utterance."""

APART_SAMPLES = RATE_HZ * 13 // 10
"""Between the two channels of a stereo session, so that they speak at different times."""


class ClientAudio(NamedTuple):
    """One session's audio, shape (samples, channels), and the samples at which its client acts."""

    samples: Samples
    finalized: tuple[int, ...]
    departures: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.samples.shape[1])


@cache
def _sentence(number: int) -> Samples:
    return np.frombuffer(samples(recordings()[number]), "<i2")


def audio_of(plan: SessionPlan) -> ClientAudio:
    """The audio of `plan`."""
    parts = [np.zeros(plan.lead_samples, np.int16)]
    for number, pause_ms in zip(plan.sentences, plan.pauses_ms, strict=True):
        parts += [_sentence(number), np.zeros(RATE_HZ * pause_ms // 1000, np.int16)]
    mono = np.concatenate([*parts, np.zeros(END_SAMPLES, np.int16)])
    samples = np.stack([np.roll(mono, APART_SAMPLES * channel) for channel in range(plan.channels)], axis=1)
    return ClientAudio(samples, _at(plan.finalized, len(mono)), _at(plan.departures, len(mono)))


def undisturbed(
    sent: ClientAudio, session_id: str, engine: str, *, length: int, reason: str, holes: Sequence[tuple[int, int]]
) -> list[tuple[Position, Fact]]:
    """The facts of its first `length` samples without `holes`, computed without a server."""
    requests = [at for at in sent.finalized if at <= length and not any(start < at <= end for start, end in holes)]
    story = Story(
        sent.samples[:length], RATE_HZ, finalized=requests, holes=holes,
        segmenter=dict(msgspec.to_builtins(SegmenterSettings())),
    )
    return [(at, _named(decode_fact(data), engine, reason)) for at, data in expected(story, session_id)]


def _named(fact: Fact, engine: str, reason: str) -> Fact:
    if "engine" in fact.__struct_fields__:
        return msgspec.structs.replace(fact, engine=engine)
    return msgspec.structs.replace(fact, reason=reason) if "reason" in fact.__struct_fields__ else fact


def _at(shares: Sequence[float], samples: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, int(share * samples)) for share in shares}))
