"""One claimed run in a worker: its timeline, and the decisions on their way to a commit."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from eventlog.events import Fact, HoleNoted, SessionEnded, SessionStarted, UtteranceFinal
from eventlog.log import Checkpoint, Claim, Commit
from eventlog.positions import SEALED, Position
from processor.recognisers import Clip, Recognition
from processor.timeline import Decision, Timeline

TRIM_STEP_S = 10
"""Audio is freed in steps of this: XTRIM works by whole nodes anyway."""

MERGED_DECISIONS = 32
"""Facts in one commit: bounds the script's time; a catch-up has many ready at once."""


@dataclass(slots=True, eq=False)
class PendingDecision:
    """A decision that waits for its text, or for those before it."""

    decision: Decision
    recognition: Recognition | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it may be committed."""
        return self.decision.utterance is None or self.recognition is not None


@dataclass(slots=True, eq=False)
class ActiveRun:
    """A run that this worker holds; everything but the claim can be had again from the log.

    Attributes:
        claim: The right to commit.
        start: The session's pinned settings.
        checkpoint: The last committed one.
        last_fact: The last committed fact's position.
        timeline: Where reading and segmenting stand.
        pending: Decisions in order, not committed yet.
        committing: How many of `pending` are in the commit on its way; there is never more than one commit.
        waiting_utterances: How many of `pending` have speech; kept beside them, since every tick asks for it.
        held: Whether the claim is still ours, as far as we know.
        resting_ticks: For how many more ticks its audio isn't asked for, since none is due.
        partial_due: Monotonic time in seconds from which the next partial may be made.
        trimmed_samples: Up to where audio was freed.
        refreshed: Monotonic time in seconds when its keys' TTLs were last renewed.
    """

    claim: Claim
    start: SessionStarted
    checkpoint: Checkpoint
    last_fact: Position
    timeline: Timeline
    pending: deque[PendingDecision] = field(default_factory=deque)
    committing: int = 0
    held: bool = True
    waiting_utterances: int = 0
    resting_ticks: int = 0
    partial_due: float = 0.0
    trimmed_samples: int = 0
    refreshed: float = 0.0

    def clip(self, decision: Decision) -> Clip:
        """What the recogniser gets of a decision that has an utterance."""
        utterance = decision.utterance
        assert utterance is not None  # noqa: S101 - callers ask for decisions with speech only
        return Clip(
            pcm=utterance.pcm,
            sample_rate_hz=self.start.sample_rate_hz,
            language=self.start.language,
            voiced_ms=utterance.voiced_ms,
        )

    def next_commit(self, retention_samples: int) -> Commit | None:
        """The commit of all decisions that are ready, in order; None if there are none.

        They stay pending until `committed` is told, so the same commit can be made again.
        """
        ready: list[PendingDecision] = []
        for item in self.pending:
            if not item.is_ready or len(ready) == MERGED_DECISIONS:
                break
            ready.append(item)
        if not ready:
            return None
        self.committing = len(ready)
        facts, utterance = self._facts(ready)
        last = ready[-1].decision
        checkpoint = Checkpoint(
            cursor=last.cursor,
            boundaries=last.boundaries,
            utterance=utterance,
            serial=self.checkpoint.serial + 1,
        )
        return Commit(
            self.claim,
            checkpoint,
            facts,
            trim_before=self._trim_before(min(last.boundaries) - retention_samples),
            ends=last.sealed is not None,
        )

    def committed(self, commit: Commit) -> None:
        """Note that `commit` is in the log: its decisions are done."""
        for _ in range(self.committing):
            if self.pending.popleft().decision.utterance is not None:
                self.waiting_utterances -= 1
        self.committing = 0
        self.checkpoint = commit.checkpoint
        if commit.facts:
            self.last_fact = commit.facts[-1][0]
        if commit.trim_before:
            self.trimmed_samples = commit.trim_before.offset

    def _facts(self, ready: list[PendingDecision]) -> tuple[list[tuple[Position, Fact]], int]:
        facts: list[tuple[Position, Fact]] = []
        utterance, at = self.checkpoint.utterance, self.last_fact
        for item in ready:
            fact = self._fact(item, utterance)
            if isinstance(fact, UtteranceFinal):
                utterance += 1
                at = Position(utterance, 0)
            elif isinstance(fact, SessionEnded):
                at = SEALED
            elif fact is not None:
                at = at.control()
            if fact is not None:
                facts.append((at, fact))
        return facts, utterance

    def _fact(self, item: PendingDecision, utterance: int) -> Fact | None:
        decision, rate_hz = item.decision, self.start.sample_rate_hz
        if decision.sealed is not None:
            return SessionEnded(
                reason=decision.sealed.reason,
                audio_samples=decision.sealed.offset_samples,
                utterances=utterance,
                sample_rate_hz=rate_hz,
                ended_ms=time.time_ns() // 1_000_000,
            )
        if decision.hole is not None:
            return HoleNoted(start_samples=decision.hole[0], end_samples=decision.hole[1], sample_rate_hz=rate_hz)
        if decision.utterance is None or item.recognition is None or not item.recognition.text:
            return None  # silence, or noise in which nobody spoke
        return UtteranceFinal(
            utterance=utterance,
            channel=decision.channel,
            start_samples=decision.utterance.start_samples,
            end_samples=decision.utterance.end_samples,
            decided_samples=decision.utterance.decided_samples,
            sample_rate_hz=rate_hz,
            text=item.recognition.text,
            confidence=round(item.recognition.confidence, 4),
            speaker=str(decision.channel + 1),
            committed_ms=time.time_ns() // 1_000_000,
        )

    def _trim_before(self, keep_from_samples: int) -> Position | None:
        if keep_from_samples < self.trimmed_samples + TRIM_STEP_S * self.start.sample_rate_hz:
            return None
        return Position(keep_from_samples, 0)
