"""The runs that one worker has claimed: each with its timeline, and its decisions on their way to a commit."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from eventlog.events import CONTAINER, Fact, SessionStarted, UtteranceFinal
from eventlog.keys import LIVE_RUN
from eventlog.log import Checkpoint, Claim, Commit
from eventlog.positions import Position
from eventlog.readmodel.feed import ProvisionalAnswer
from eventlog.work.shared_recognition import Reference
from processor.arrival_pace import ArrivalPace
from processor.facts import FactBuilder, RecognisedUtterance
from processor.recognisers import Clip, Recognition
from processor.speech import Utterance
from processor.timeline import Decision, Timeline

TRIM_STEP_S = 10
"""Audio is freed in steps of this: XTRIM works by whole nodes anyway."""

SHORT_RECORDING_S = 60
"""The client of a container no longer than this waits for its text as a speaker does; nor is a speaker's own audio so
much longer than the session has lasted, whatever the clocks of edges say."""

MAX_DECISIONS_PER_COMMIT = 32
"""Bounds the commit script's time; a catch-up has many decisions ready at once."""


@dataclass(slots=True, eq=False)
class PendingDecision:
    """A decision that waits for its recognition, or for those before it.

    Attributes:
        decision: The decision.
        recognition: Of its utterance, once there.
        decided_at: Monotonic time in seconds.
        awaited_partials: Of a request: how many open utterances are still being recognised.
        partials: Of a request: the recognised ones.
        utterances_before: How many finals precede it; known once it is in a commit.
        is_behind: Whether its session was behind when it was decided.
    """

    decision: Decision
    recognition: Recognition | None = None
    decided_at: float = field(default_factory=time.monotonic)
    awaited_partials: int = 0
    partials: list[RecognisedUtterance] = field(default_factory=list)
    utterances_before: int = 0
    is_behind: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether it may be committed."""
        return not self.awaited_partials and (self.decision.utterance is None or self.recognition is not None)


@dataclass(slots=True, eq=False)
class ActiveRun:
    """A run that this worker has claimed; everything but the claim can be restored from the log.

    Attributes:
        claim: The right to commit.
        start: The session's pinned settings.
        checkpoint: The last committed one.
        last_fact: The last committed fact's position.
        timeline: The state of reading and segmenting.
        total_samples: The recording's length as its container states it, 0 if unknown.
        source: Where its audio is: in the log if empty, else as in `eventlog.work.replays`.
        pending: Decisions in order, not committed yet.
        committing: How many of `pending` are in the commit under way; at most one commit is.
        waiting_utterances: How many of `pending` have speech; kept beside them, since every tick asks for it.
        is_held: Whether the claim is still this worker's, as far as it knows.
        ticks_to_skip: For how many ticks its audio is not read, since none is due.
        pace: How its audio comes in: live speech, or a backlog.
        trimmed_samples: Up to where audio was freed.
        ttl_renewed_at: Monotonic time in seconds when its keys' TTLs were last renewed.
        committed_at: Monotonic time in seconds of the last commit, or of the claim.
        answers: Of requests whose earlier decisions are all committed; their publisher removes them.
    """

    claim: Claim
    start: SessionStarted
    checkpoint: Checkpoint
    last_fact: Position
    timeline: Timeline
    total_samples: int = 0
    source: str = ""
    pending: deque[PendingDecision] = field(default_factory=deque)
    committing: int = 0
    waiting_utterances: int = 0
    is_held: bool = True
    ticks_to_skip: int = 0
    pace: ArrivalPace = field(default_factory=ArrivalPace)
    trimmed_samples: int = 0
    ttl_renewed_at: float = field(default_factory=time.monotonic)
    committed_at: float = field(default_factory=time.monotonic)
    answers: list[ProvisionalAnswer] = field(default_factory=list)

    @property
    def is_recorded(self) -> bool:
        """Whether it is a batch file, a long recording or a replay: no speaker waits for its captions.

        A browser's recorder sends a container too, but one that does not state its length, and no faster than speech.
        """
        start = self.start
        if start.batch is not None or self.claim.keys.run != LIVE_RUN:
            return True
        if start.encoding != CONTAINER:
            return False
        if self.total_samples or self.timeline.has_ended:
            return self.total_samples > SHORT_RECORDING_S * start.sample_rate_hz
        lasted_s = (_now_ms() - start.started_ms) / 1000
        return self.timeline.cursor.offset / start.sample_rate_hz > lasted_s + SHORT_RECORDING_S

    @property
    def is_behind(self) -> bool:
        """Whether it is worked off beside live speech: it is a backlog, or one of its utterances waits that was."""
        return self.pace.is_behind or any(item.is_behind for item in self.pending)

    @property
    def is_finished(self) -> bool:
        """Whether its end is committed."""
        return self.timeline.has_ended and not self.pending

    @property
    def has_more_audio(self) -> bool:
        """Whether the rest of its audio can be read at once: a replay's can, up to the end."""
        return self.claim.keys.run != LIVE_RUN and self.is_held and not self.timeline.has_ended

    @property
    def waits_since(self) -> float:
        """Monotonic time in seconds since when its next decision could have been committed; now if it has none.

        Those of a recording are decided long before; they wait for each other.
        """
        if not self.pending:
            return time.monotonic()
        decided_at = self.pending[0].decided_at
        return max(decided_at, self.committed_at) if self.is_recorded else decided_at

    @property
    def uncommitted_s(self) -> float:
        """Audio read past the last committed boundary, in seconds."""
        committed = min(self.checkpoint.boundaries, default=0)
        return max(0, self.timeline.cursor.offset - committed) / self.start.sample_rate_hz

    def clip(self, utterance: Utterance, *, partial: bool = False) -> Clip:
        """An utterance as recognisers take it; `partial` while it is open."""
        options = utterance.options or self.start
        return Clip(
            pcm=utterance.pcm, sample_rate_hz=self.start.sample_rate_hz, language=options.language,
            partial=partial, voiced_ms=utterance.voiced_ms, model=options.model, terms=options.terms,
            prompt=options.prompt,
        )  # fmt: skip

    def reference(self, channel: int, utterance: Utterance) -> Reference:
        """Where another worker finds an utterance of this run, and the settings that its recogniser needs."""
        options = utterance.options or self.start
        return Reference(
            channel=channel, channels=self.timeline.channels,
            start_samples=utterance.start_samples, end_samples=utterance.end_samples,
            sample_rate_hz=self.start.sample_rate_hz, language=options.language, voiced_ms=utterance.voiced_ms,
            model=options.model, terms=options.terms, prompt=options.prompt,
        )  # fmt: skip

    def next_commit(self, *, retention_samples: int, keeps_unarchived: bool = False) -> Commit | None:
        """The commit of the decisions that are ready, in order; None if none is.

        They stay pending until `apply_commit`, so the same commit can be made again.
        """
        facts: list[tuple[Position, Fact]] = []
        builder, utterances, after = self._fact_builder(), self.checkpoint.utterance, self.last_fact
        before_samples, last, count = min(self.checkpoint.boundaries, default=0), None, 0
        for item in self.pending:
            if not item.is_ready or count == MAX_DECISIONS_PER_COMMIT:
                break
            item.utterances_before = utterances
            decided = builder.facts(
                item.decision, item.recognition, utterances=utterances, after=after, before_samples=before_samples
            )
            if decided:
                facts += decided
                after = decided[-1][0]
                utterances += isinstance(decided[0][1], UtteranceFinal)
            last, count = item.decision, count + 1
            before_samples = min(last.boundaries, default=0)
        if last is None:
            return None
        self.committing = count
        checkpoint = Checkpoint(
            cursor=last.cursor, boundaries=last.boundaries, utterance=utterances, serial=self.checkpoint.serial + 1,
            options=last.options,
        )  # fmt: skip
        keep_from_samples = before_samples - retention_samples
        # A replay's audio is not its own to free.
        trims = (
            self.claim.keys.run == LIVE_RUN
            and keep_from_samples >= self.trimmed_samples + TRIM_STEP_S * self.start.sample_rate_hz
        )
        return Commit(
            self.claim, checkpoint, facts, trim_before=Position(keep_from_samples, 0) if trims else None,
            ends=last.sealed is not None, keeps_unarchived=keeps_unarchived,
        )  # fmt: skip

    def apply_commit(self, commit: Commit) -> list[float]:
        """Remove the decisions that `commit` wrote to the log; returns when its utterances were decided."""
        done = [self.pending.popleft() for _ in range(self.committing)]
        decided_at = [item.decided_at for item in done if item.decision.utterance is not None]
        self.waiting_utterances -= len(decided_at)
        self.committing = 0
        self.committed_at = time.monotonic()
        builder = self._fact_builder()
        self.answers += [
            builder.answer(item.decision.request, item.utterances_before, item.partials)
            for item in done if item.decision.request
        ]  # fmt: skip
        self.checkpoint = commit.checkpoint
        if commit.facts:
            self.last_fact = commit.facts[-1][0]
        if commit.trim_before:
            self.trimmed_samples = commit.trim_before.offset
        return decided_at

    def _fact_builder(self) -> FactBuilder:
        return FactBuilder(self.start, self.total_samples, _now_ms)


class ActiveRuns:
    """All runs of one worker, by ``<session> <run>``, and the event that wakes its committer."""

    def __init__(self, capacity: int) -> None:
        """Hold `capacity` runs at most."""
        self.capacity = capacity
        self.ready: dict[str, ActiveRun] = {}
        """Runs whose first decision is ready to be committed, in the order in which they became so."""
        self.wake_committer = asyncio.Event()
        self.uploads: dict[str, ActiveRun] = {}
        """The runs whose audio must be decoded first; a replay finds it decoded."""
        self._runs: dict[str, ActiveRun] = {}

    def __len__(self) -> int:
        """How many runs are held."""
        return len(self._runs)

    def __iter__(self) -> Iterator[ActiveRun]:
        """Every run held now; the set may change meanwhile."""
        return iter(list(self._runs.values()))

    def __contains__(self, member: str) -> bool:
        """Whether the run named ``<session> <run>`` is held."""
        return member in self._runs

    @property
    def room(self) -> int:
        """How many more runs may be claimed."""
        return max(0, self.capacity - len(self._runs))

    @property
    def has_live(self) -> bool:
        """Whether a speaker waits for the captions of one of them."""
        return any(not run.is_recorded and not run.pace.is_behind for run in self._runs.values())

    @property
    def claims(self) -> list[Claim]:
        """The claims of all runs held."""
        return [run.claim for run in self._runs.values()]

    def add(self, run: ActiveRun) -> None:
        """Hold a run."""
        keys = run.claim.keys
        self._runs[keys.member] = run
        if run.start.encoding == CONTAINER and keys.run == LIVE_RUN:
            self.uploads[keys.member] = run

    def remove(self, run: ActiveRun) -> None:
        """Stop all work on a run that is lost, handed over or finished."""
        run.is_held = False
        member = run.claim.keys.member
        if self._runs.get(member) is run:
            del self._runs[member]
            self.uploads.pop(member, None)
        if self.ready.get(member) is run:
            del self.ready[member]

    def mark_ready(self, run: ActiveRun) -> None:
        """Pass a run to the committer if its first decision is ready."""
        if run.is_held and not run.committing and run.pending and run.pending[0].is_ready:
            self.ready[run.claim.keys.member] = run
            self.wake_committer.set()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
