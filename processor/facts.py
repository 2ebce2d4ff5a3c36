"""Decisions to facts. Pure but for the wall clock: every worker states the same facts from any checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eventlog.events import (
    Fact,
    HoleNoted,
    ProgressNoted,
    SessionEnded,
    SessionStarted,
    SourceNoted,
    UtteranceFinal,
    Word,
)
from eventlog.positions import SEALED, Position
from eventlog.readmodel.feed import OpenUtterance, ProvisionalAnswer
from eventlog.text.published import publish_partial, publish_text
from processor.recognisers import Recognition
from processor.speech import Utterance
from processor.timeline import Decision

MILESTONES_PERCENT = (10, 25, 50, 75, 90)
"""Progress reported of a recording whose length is known; its end reports the rest."""

PROGRESS_S = 5
"""A live stream's progress grid, "every few seconds": a boundary that passes a multiple of it without another fact
states one."""

LABEL_DIGITS = 4
"""Of a hash label: sixteen bits distinguish a conversation's utterances and can still be read."""

RecognisedUtterance = tuple[int, Utterance, Recognition]
"""An open utterance: its channel, its speech so far, and the recognition of that."""


@dataclass(frozen=True, slots=True)
class FactBuilder:
    """Builds one run's facts.

    Attributes:
        start: The session's pinned settings.
        total_samples: The recording's length, or 0 if unknown.
        now_ms: The wall clock.
    """

    start: SessionStarted
    total_samples: int
    now_ms: Callable[[], int]

    def facts(
        self, decision: Decision, recognition: Recognition | None, *, utterances: int, after: Position,
        before_samples: int,
    ) -> list[tuple[Position, Fact]]:  # fmt: skip
        """A decision's facts and their positions in the transcript.

        `utterances` finals, facts up to `after`, and audio up to `before_samples` were decided before it.
        """
        rate_hz, facts = self.start.sample_rate_hz, list[tuple[Position, Fact]]()
        utterance = decision.utterance
        if (source := decision.source) is not None:
            facts.append((after.control(), SourceNoted(
                sample_rate_hz=source.sample_rate_hz, channels=source.channels, container=source.container,
                codec=source.codec, duration_samples=source.duration_samples,
            )))  # fmt: skip
        elif (sealed := decision.sealed) is not None:
            return [(SEALED, SessionEnded(
                reason=sealed.reason, audio_samples=sealed.offset_samples, utterances=utterances,
                sample_rate_hz=rate_hz, ended_ms=self.now_ms(), detail=sealed.detail,
            ))]  # fmt: skip
        elif (hole := decision.hole) is not None:
            facts.append((after.control(), HoleNoted(
                start_samples=hole[0], end_samples=hole[1], sample_rate_hz=rate_hz,
            )))  # fmt: skip
        elif utterance is not None and recognition is not None and recognition.text:  # empty: silence or noise
            first, last = utterance.start_samples, utterance.end_samples
            facts.append((Position(utterances + 1, 0), UtteranceFinal(
                utterance=utterances,
                channel=decision.channel,
                start_samples=first,
                end_samples=last,
                decided_samples=utterance.decided_samples,
                sample_rate_hz=rate_hz,
                text=recognition.text,
                confidence=round(recognition.confidence, 4),
                speaker=_hash_label(utterance) if self._has_hash_labels else str(decision.channel + 1),
                committed_ms=self.now_ms(),
                words=tuple(
                    Word(
                        word.text, min(last, first + round(word.start_s * rate_hz)),
                        min(last, first + round(word.end_s * rate_hz)), round(word.confidence, 3),
                    )
                    for word in recognition.words
                ),
                language=recognition.language or (utterance.options or self.start).language.replace("auto", ""),
                model=recognition.model,
                decodes=recognition.decodes,
                numerals=self.start.numerals,
                profanity_filter=self.start.profanity_filter,
            )))  # fmt: skip
        after_samples = min(decision.boundaries, default=0)
        if self._has_progress(before_samples, after_samples, states_more=bool(facts)):
            facts.append(((facts[-1][0] if facts else after).control(), ProgressNoted(
                processed_samples=after_samples, total_samples=self.total_samples, sample_rate_hz=rate_hz,
                noted_ms=self.now_ms(),
            )))  # fmt: skip
        return facts

    def _has_progress(self, before_samples: int, after_samples: int, *, states_more: bool) -> bool:
        """Whether a decision states progress, by the boundaries alone, so that a worker that decides again does too."""
        if self.total_samples:
            hundredths = before_samples * 100, after_samples * 100
            return any(hundredths[0] < share * self.total_samples <= hundredths[1] for share in MILESTONES_PERCENT)
        grid_samples = PROGRESS_S * self.start.sample_rate_hz
        return not states_more and before_samples // grid_samples < after_samples // grid_samples

    def answer(self, request: str, utterances: int, recognised: Sequence[RecognisedUtterance]) -> ProvisionalAnswer:
        """The answer to a request: the number of finals so far, and each channel's open utterance with its text."""
        rate_hz = self.start.sample_rate_hz
        provisional = [
            OpenUtterance(
                utterance=utterances + number,
                text=published_text(self.start, recognition),
                start=round(utterance.start_samples / rate_hz, 3),
                end=round(utterance.end_samples / rate_hz, 3),
                confidence=round(recognition.confidence, 4),
                speaker=_hash_label(utterance) if self._has_hash_labels else str(channel + 1),
                channel=channel,
            )
            for number, (channel, utterance, recognition) in enumerate(one for one in recognised if one[2].text)
        ]
        return ProvisionalAnswer(request=request, utterances=utterances, provisional=provisional)

    @property
    def _has_hash_labels(self) -> bool:
        return self.start.speaker_labels == "hash"


def published_text(start: SessionStarted, recognition: Recognition) -> str:
    """The text of an open utterance as its session wants it published."""
    language = recognition.language or start.language.replace("auto", "")
    return publish_text(
        recognition.text, language, numerals=start.numerals, profanity_filter=start.profanity_filter
    )


def published_partial(start: SessionStarted, text: str, stable: int) -> tuple[str, int]:
    """A partial's text as its session wants it published, and how many of its characters are stable."""
    language = start.language.replace("auto", "")
    return publish_partial(
        text, stable, language, numerals=start.numerals, profanity_filter=start.profanity_filter
    )


def _hash_label(utterance: Utterance) -> str:
    return f"speaker-{hashlib.sha256(utterance.pcm).hexdigest()[:LABEL_DIGITS]}"
