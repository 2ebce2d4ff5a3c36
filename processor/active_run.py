"""One claimed run in a worker: its timeline, and the decisions on their way to a commit."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from eventlog.events import CONTAINER, Fact, SessionStarted, UtteranceFinal
from eventlog.keys import LIVE_RUN
from eventlog.log import Checkpoint, Claim, Commit
from eventlog.positions import Position
from eventlog.readmodel.feed import ProvisionalAnswer
from eventlog.work.shared_recognition import Reference
from processor.facts import Numbered, Telling, position_of
from processor.recognisers import Clip, Recognition
from processor.speech import Utterance
from processor.timeline import Decision, Timeline

TRIM_STEP_S = 10
"""Audio is freed in steps of this: XTRIM works by whole nodes anyway."""

SHORT_S = 60
"""Whoever sends a container no longer than this waits for its text as a speaker does; nor is a speaker's own audio so
much longer than the session has lasted, whatever the clocks of edges say."""

MERGED_DECISIONS = 32
"""Facts in one commit: bounds the script's time; a catch-up has many ready at once."""


@dataclass(slots=True, eq=False)
class PendingDecision:
    """A decision that waits for its text, or for those before it."""

    decision: Decision
    recognition: Recognition | None = None
    decided_at: float = field(default_factory=time.monotonic)

    awaited: int = 0
    """For a question: how many open utterances are still being recognised."""
    heard: list[Numbered] = field(default_factory=list)
    """For a question: those that were."""
    utterances: int = 0
    """How many finals come before it; known once it is in a commit."""

    @property
    def is_ready(self) -> bool:
        """Whether it may be committed."""
        return not self.awaited and (self.decision.utterance is None or self.recognition is not None)


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
        total_samples: The recording's length as its container tells it, 0 if that isn't known.
        source: Where its audio is: in the log if empty, else what `eventlog.work.replays` says.
        committed_at: Monotonic time in seconds of the last commit, or of the claim.
        answers: What was asked and can be answered, since all before it is committed; whoever publishes takes it.
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
    total_samples: int = 0
    source: str = ""
    committed_at: float = field(default_factory=time.monotonic)
    answers: list[ProvisionalAnswer] = field(default_factory=list)

    @property
    def is_recorded(self) -> bool:
        """Whether it is a recorded file, a long recording or a replay, of which nobody awaits captions.

        A browser's recorder sends a container too, but one that doesn't tell its length, and no faster than it speaks.
        """
        start = self.start
        if start.batch is not None or self.claim.keys.run != LIVE_RUN:
            return True
        if start.encoding != CONTAINER:
            return False
        if self.total_samples or self.timeline.ended:
            return self.total_samples > SHORT_S * start.sample_rate_hz
        lasted_s = (_now_ms() - start.started_ms) / 1000
        return self.timeline.cursor.offset / start.sample_rate_hz > lasted_s + SHORT_S

    @property
    def is_over(self) -> bool:
        """Whether its end is committed."""
        return self.timeline.ended and not self.pending

    @property
    def waits_since(self) -> float:
        """Monotonic time in seconds since when its next decision could have been committed; now if there is none.

        Those of a recording are drawn long before; they wait for each other.
        """
        if not self.pending:
            return time.monotonic()
        decided_at = self.pending[0].decided_at
        return max(decided_at, self.committed_at) if self.is_recorded else decided_at

    @property
    def uncommitted_s(self) -> float:
        """Audio that was read past the last committed boundary, seconds."""
        committed = min(self.checkpoint.boundaries, default=0)
        return max(0, self.timeline.cursor.offset - committed) / self.start.sample_rate_hz

    def clip(self, utterance: Utterance, *, partial: bool = False) -> Clip:
        """What the recogniser gets of an utterance; `partial` while it is open."""
        return Clip(
            pcm=utterance.pcm,
            sample_rate_hz=self.start.sample_rate_hz,
            language=self.start.language,
            partial=partial,
            voiced_ms=utterance.voiced_ms,
        )

    def reference(self, channel: int, utterance: Utterance) -> Reference:
        """How another worker finds an utterance of this run, and what its recogniser must know."""
        return Reference(
            channel=channel, channels=self.timeline.channels,
            start_samples=utterance.start_samples, end_samples=utterance.end_samples,
            sample_rate_hz=self.start.sample_rate_hz, language=self.start.language, voiced_ms=utterance.voiced_ms,
        )  # fmt: skip

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
            trim_before=self._trim_before(min(last.boundaries, default=0) - retention_samples),
            ends=last.sealed is not None,
        )

    def committed(self, commit: Commit) -> list[float]:
        """Note that `commit` is in the log: its decisions are done; returns when its utterances were decided."""
        done = [self.pending.popleft() for _ in range(self.committing)]
        spoken = [item.decided_at for item in done if item.decision.utterance is not None]
        self.waiting_utterances -= len(spoken)
        self.committing = 0
        self.committed_at = time.monotonic()
        telling = self._telling()
        self.answers += [
            telling.answer(item.decision.asked, item.utterances, item.heard) for item in done if item.decision.asked
        ]
        self.checkpoint = commit.checkpoint
        if commit.facts:
            self.last_fact = commit.facts[-1][0]
        if commit.trim_before:
            self.trimmed_samples = commit.trim_before.offset
        return spoken

    def _telling(self) -> Telling:
        return Telling(self.start, self.total_samples, _now_ms)

    def _facts(self, ready: list[PendingDecision]) -> tuple[list[tuple[Position, Fact]], int]:
        facts: list[tuple[Position, Fact]] = []
        telling, utterance, at = self._telling(), self.checkpoint.utterance, self.last_fact
        before_samples = min(self.checkpoint.boundaries, default=0)
        for item in ready:
            item.utterances = utterance
            for fact in telling.facts(item.decision, item.recognition, utterance, before_samples):
                utterance += isinstance(fact, UtteranceFinal)
                at = position_of(fact, at, utterance)
                facts.append((at, fact))
            before_samples = min(item.decision.boundaries, default=0)
        return facts, utterance

    def _trim_before(self, keep_from_samples: int) -> Position | None:
        if self.claim.keys.run != LIVE_RUN:
            return None  # what a replay has read isn't its own to free
        if keep_from_samples < self.trimmed_samples + TRIM_STEP_S * self.start.sample_rate_hz:
            return None
        return Position(keep_from_samples, 0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
