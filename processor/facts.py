"""Decisions to facts: pure, so that any worker states the same ones from any checkpoint, the wall clock aside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from eventlog.events import (
    Fact,
    HoleNoted,
    ProgressNoted,
    SessionEnded,
    SessionStarted,
    SourceNoted,
    UtteranceFinal,
)
from eventlog.positions import SEALED, Position
from eventlog.readmodel.feed import OpenUtterance, ProvisionalAnswer
from processor.recognisers import Recognition
from processor.speech import Utterance
from processor.timeline import Decision

MILESTONES_PERCENT = (10, 25, 50, 75, 90)
"""Of a recording whose length is known: what people are told; its end tells the rest."""

PROGRESS_S = 5
"""A live stream's grid, "every few seconds": a boundary that passes a multiple of it and says nothing else says so."""

LABEL_DIGITS = 4
"""Of a hash label: sixteen bits tell a conversation's utterances apart and can still be read."""

Numbered = tuple[int, Utterance, Recognition]
"""An open utterance's channel, what was heard of it, and how that reads."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How one run's facts are told.

    Attributes:
        start: The session's pinned settings.
        total_samples: The recording's length, or 0 if nobody knows.
        now_ms: The wall clock.
    """

    start: SessionStarted
    total_samples: int
    now_ms: Callable[[], int]

    def facts(
        self, decision: Decision, recognition: Recognition | None, utterance: int, before_samples: int
    ) -> list[Fact]:
        """What a decision states; `utterance` finals and audio up to `before_samples` were decided before it."""
        fact = self._fact(decision, recognition, utterance)
        if decision.sealed is not None:
            return [fact] if fact is not None else []
        progress = self._progress(before_samples, min(decision.boundaries, default=0), is_told=fact is not None)
        return [one for one in (fact, progress) if one is not None]

    def answer(self, request: str, utterances: int, heard: list[Numbered]) -> ProvisionalAnswer:
        """What can be said by now: so many finals, and each channel's open utterance as it would read."""
        rate_hz = self.start.sample_rate_hz
        provisional = [
            OpenUtterance(
                utterance=utterances + number,
                text=recognition.text,
                start=round(utterance.start_samples / rate_hz, 3),
                end=round(utterance.end_samples / rate_hz, 3),
                confidence=round(recognition.confidence, 4),
                speaker=self._speaker(channel, utterance),
                channel=channel,
            )
            for number, (channel, utterance, recognition) in enumerate(one for one in heard if one[2].text)
        ]
        return ProvisionalAnswer(request=request, utterances=utterances, provisional=provisional)

    def _fact(self, decision: Decision, recognition: Recognition | None, utterance: int) -> Fact | None:
        rate_hz = self.start.sample_rate_hz
        if (source := decision.source) is not None:
            return SourceNoted(
                sample_rate_hz=source.sample_rate_hz, channels=source.channels, container=source.container,
                codec=source.codec, duration_samples=source.duration_samples,
            )  # fmt: skip
        if decision.sealed is not None:
            return SessionEnded(
                reason=decision.sealed.reason,
                audio_samples=decision.sealed.offset_samples,
                utterances=utterance,
                sample_rate_hz=rate_hz,
                ended_ms=self.now_ms(),
                detail=decision.sealed.detail,
            )
        if decision.hole is not None:
            return HoleNoted(start_samples=decision.hole[0], end_samples=decision.hole[1], sample_rate_hz=rate_hz)
        if decision.utterance is None or recognition is None or not recognition.text:
            return None  # silence, or noise in which nobody spoke
        return self._final(decision, decision.utterance, recognition, utterance)

    def _final(self, decision: Decision, heard: Utterance, recognition: Recognition, utterance: int) -> Fact:
        return UtteranceFinal(
            utterance=utterance,
            channel=decision.channel,
            start_samples=heard.start_samples,
            end_samples=heard.end_samples,
            decided_samples=heard.decided_samples,
            sample_rate_hz=self.start.sample_rate_hz,
            text=recognition.text,
            confidence=round(recognition.confidence, 4),
            speaker=self._speaker(decision.channel, heard),
            committed_ms=self.now_ms(),
        )

    def _speaker(self, channel: int, heard: Utterance) -> str:
        if self.start.speaker_labels == "hash":
            return f"speaker-{hashlib.sha256(heard.pcm).hexdigest()[:LABEL_DIGITS]}"
        return str(channel + 1)

    def _progress(self, before_samples: int, after_samples: int, *, is_told: bool) -> ProgressNoted | None:
        """Said from the two boundaries alone, so that whoever decides again says it again."""
        total, grid_samples = self.total_samples, PROGRESS_S * self.start.sample_rate_hz
        if total:
            passed = any(before_samples * 100 < share * total <= after_samples * 100 for share in MILESTONES_PERCENT)
        else:
            passed = not is_told and before_samples // grid_samples < after_samples // grid_samples
        if not passed:
            return None
        return ProgressNoted(
            processed_samples=after_samples,
            total_samples=total,
            sample_rate_hz=self.start.sample_rate_hz,
            noted_ms=self.now_ms(),
        )


def position_of(fact: Fact, after: Position, utterances: int) -> Position:
    """Where a fact goes in the transcript after one at `after`; `utterances` finals, itself included, come so far."""
    if isinstance(fact, UtteranceFinal):
        return Position(utterances, 0)
    if isinstance(fact, SessionEnded):
        return SEALED
    return after.control()
