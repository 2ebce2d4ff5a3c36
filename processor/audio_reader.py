"""Reads the audio of all runs on a tick, and turns it into decisions and recognition jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from eventlog.codec import UndecodableEventError
from eventlog.keys import SessionKeys
from eventlog.log import AudioEntry, EventLog, LogUnavailableError
from eventlog.positions import Position
from eventlog.work.replays import LOG
from processor.active_runs import ActiveRun, ActiveRuns, PendingDecision
from processor.archive_prefetch import ArchivePrefetch
from processor.early_finals import EarlyFinals
from processor.recognisers import RecogniserError, Recognition
from processor.recognition_job import Job, RecordedUtterance
from processor.recognition_queue import RecognitionQueue
from processor.settings import WorkerSettings
from processor.speech import SHORTEST_MS, Utterance

log = logging.getLogger(__name__)

LONGEST_SKIP_MS = 120
"""The longest pause between reads of a run, however long its chunks are: control events should not wait longer."""

CATCHING_UP_RUNS = 8
"""Runs with more audio than one read takes that are read in one round, so that a round stays short for the others."""

CAUGHT_UP_S = 0.5
"""A read of several chunks that hold so much found a backlog: live speech comes in with every tick or two."""

YIELD_S = 0.01
"""Segmenting continues this long before other tasks (commits, renewals) get their turn."""


class AudioReader:
    """The worker's read loop: the one place where audio enters."""

    def __init__(
        self,
        log_: EventLog,
        runs: ActiveRuns,
        recognition: RecognitionQueue,
        settings: WorkerSettings,
        *,
        on_log_error: Callable[[], None],
        on_poison: Callable[[ActiveRun, str], None],
        early: EarlyFinals | None = None,
    ) -> None:
        """Read through `log_`; `on_poison` receives a run that this build cannot process, with the reason.

        An utterance that one of the `early` finals has the samples of is not recognised again.
        """
        self._log = log_
        self._runs = runs
        self._recognition = recognition
        self._settings = settings
        self._early = early
        self._archive = ArchivePrefetch(settings.archive, batch_bytes=settings.max_read_bytes)
        self._on_log_error = on_log_error
        self._on_poison = on_poison
        self.consumed_at = time.monotonic()
        """When a round of reads last succeeded, monotonic time in seconds."""
        self.segmenting_s = 0.0
        """Time spent on turning audio into decisions, so far."""

    async def run(self) -> None:
        """Read until cancelled; without pause while more audio is there than one read returns."""
        tick_s = self._settings.tick_ms / 1000
        try:
            while True:
                started = time.monotonic()
                has_more = await self.tick()
                await asyncio.sleep(0.0 if has_more else max(0.0, tick_s - (time.monotonic() - started)))
        finally:
            self._archive.close()

    async def tick(self) -> bool:
        """Read the new audio of every run that has room for it, once; returns whether more is certainly there."""
        started = time.monotonic()
        due, catching_up = self._due_runs()
        has_more = await self._process_archived(due) or len(catching_up) > CATCHING_UP_RUNS
        for cursors, runs in self._rounds(due):
            try:
                found = await self._log.read(cursors, max_bytes_each=self._settings.max_read_bytes)
            except LogUnavailableError as error:
                log.warning("audio not read; retrying", extra={"error": error})
                self._on_log_error()
                await asyncio.sleep(self._settings.tick_ms / 1000)
                return False
            yielded = time.monotonic()
            for keys, entries in found.items():
                run = runs[keys.session_id]
                if run.is_held:
                    self._note_pace(run, entries)
                    self._process(run, entries)
                    self._skip_ticks(run, entries)
                if (worked_s := time.monotonic() - yielded) > YIELD_S:
                    self.segmenting_s += worked_s
                    await asyncio.sleep(0)
                    yielded = time.monotonic()
            self.segmenting_s += time.monotonic() - yielded
            has_more = has_more or any(
                run.has_more_audio or run.pace.has_more for keys in found if (run := runs[keys.session_id])
            )
        for run in catching_up[:CATCHING_UP_RUNS]:
            if run.pace.read_at_s < started:
                run.pace.has_more = False  # nothing of it was found
        self.consumed_at = time.monotonic()
        return has_more

    def _due_runs(self) -> tuple[list[ActiveRun], list[ActiveRun]]:
        """The runs that have room for more audio, and for which some may be due; and those of them that catch up.

        Of the latter so many are due that a round stays short, the one read longest ago first.
        """
        most = self._settings.max_pending_utterances
        # The sum of all recordings' utterances past `most`: each is kept in memory until it is committed.
        ahead = sum(run.waiting_utterances for run in self._runs if run.waiting_utterances >= most)
        may_run_ahead = self._settings.shared_recognition and ahead < self._settings.max_shared_utterances
        due: list[ActiveRun] = []
        catching_up: list[ActiveRun] = []
        for run in self._runs:
            if run.ticks_to_skip:
                run.ticks_to_skip -= 1
            elif not run.timeline.has_ended and (
                run.waiting_utterances < most or (may_run_ahead and run.is_recorded)
            ):
                (catching_up if run.pace.has_more and run.source == LOG else due).append(run)
        catching_up.sort(key=lambda run: run.pace.read_at_s)
        return due + catching_up[:CATCHING_UP_RUNS], catching_up

    async def _process_archived(self, due: Sequence[ActiveRun]) -> bool:
        """Process the prefetched batches of archived runs; returns whether any had arrived."""
        batches = self._archive.take(run for run in due if run.source != LOG)
        for batch in batches:
            if batch.error:
                self._on_poison(batch.run, batch.error)
            elif batch.run.is_held:
                started = time.monotonic()
                self._process(batch.run, batch.entries)
                self.segmenting_s += time.monotonic() - started
                await asyncio.sleep(0)
        return bool(batches)

    def _rounds(self, due: Sequence[ActiveRun]) -> list[tuple[dict[SessionKeys, Position], dict[str, ActiveRun]]]:
        """Cursors to read, each session once a round: a replay reads the same stream as the live run."""
        cursors: dict[SessionKeys, Position] = {}
        runs: dict[str, ActiveRun] = {}
        rounds = [(cursors, runs)]
        for run in due:
            if run.source != LOG:
                continue
            keys = run.claim.keys.session
            if keys.session_id in runs:
                rounds.append(({keys: run.timeline.cursor}, {keys.session_id: run}))
            else:
                cursors[keys] = run.timeline.cursor
                runs[keys.session_id] = run
        return rounds

    def _note_pace(self, run: ActiveRun, entries: list[AudioEntry]) -> None:
        """Note how much audio was read of a run: a client's backlog is no live speech."""
        read_bytes = sum(len(entry.pcm) for entry in entries if entry.pcm is not None)
        audio_s = read_bytes / max(1, run.timeline.frame_bytes) / run.start.sample_rate_hz
        has_more = audio_s > CAUGHT_UP_S and (len(entries) > 1 or read_bytes >= self._settings.max_read_bytes)
        run.pace.add(audio_s, time.monotonic(), has_more=has_more)

    def _skip_ticks(self, run: ActiveRun, entries: list[AudioEntry]) -> None:
        """Skip reads until more is due: a live client's next chunk comes as much later as the last one is long.

        At 100 ms a chunk and a tick of 20 ms, four of five reads of a stream would find nothing.
        """
        pcm = entries[-1].pcm
        if pcm is None or len(entries) > 1 or run.has_more_audio:
            return  # a control event, or a backlog: read again at once
        samples = len(pcm) // run.timeline.frame_bytes
        chunk_ms = min(samples * 1000 // run.start.sample_rate_hz, LONGEST_SKIP_MS)
        # One tick less for the chunk that is on its way anyway, another for jitter.
        run.ticks_to_skip = max(0, chunk_ms // self._settings.tick_ms - 2)

    def _process(self, run: ActiveRun, entries: list[AudioEntry]) -> None:
        """Feed entries to the run's timeline, keep its decisions, and submit their utterances for recognition."""
        feed, jobs, has_decided, is_behind = run.timeline.feed, list[Job](), False, run.is_behind
        for entry in entries:
            try:
                decisions = feed(entry)
            except (UndecodableEventError, ValueError) as error:
                log.exception("run unprocessable", extra={"run": run.claim.keys.member, "at": str(entry.position)})
                self._on_poison(run, f"entry {entry.position}: {error}")
                return
            for decision in decisions:
                has_decided = True
                item = PendingDecision(decision)
                run.pending.append(item)
                if decision.source is not None:
                    run.total_samples = decision.source.duration_samples
                if (utterance := decision.utterance) is not None:
                    item.is_behind = is_behind
                    run.waiting_utterances += 1
                    recorded = None
                    if run.is_recorded:
                        # References name ranges of the log's audio, which an archive's audio is not in.
                        reference = run.reference(decision.channel, utterance)
                        recorded = RecordedUtterance(run, reference, may_be_offered=run.source == LOG)
                    on_result = partial(self._on_recognition, run, item)
                    job = Job(
                        run.clip(utterance), on_result, lambda: not run.is_held, tenant=run.start.tenant_id,
                        session=run.claim.keys.member, is_behind=is_behind, recorded=recorded,
                    )  # fmt: skip
                    early, channel = self._early, decision.channel
                    if not (early and early.has_one(run, channel) and early.settle(run, channel, job)):
                        jobs.append(job)
                if decision.request:
                    jobs += self._requested_partials(run, item)
        if has_decided:
            self._recognition.submit(*jobs)
            self._runs.mark_ready(run)

    def _on_recognition(self, run: ActiveRun, item: PendingDecision, result: Recognition | RecogniserError) -> None:
        if isinstance(result, RecogniserError):
            self._on_poison(run, f"utterance before {item.decision.cursor}: {result}")
            return
        item.recognition = result
        self._runs.mark_ready(run)

    def _requested_partials(self, run: ActiveRun, item: PendingDecision) -> list[Job]:
        """The jobs whose results a request for a provisional answer waits for."""
        jobs: list[Job] = []
        for channel, utterance in item.decision.open_utterances:
            if utterance.voiced_ms >= SHORTEST_MS:
                on_result = partial(self._on_requested_partial, run, item, channel, utterance)
                clip = run.clip(utterance, partial=True)
                jobs.append(Job(
                    clip, on_result, lambda: not run.is_held, tenant=run.start.tenant_id,
                    session=run.claim.keys.member, is_requested=True,
                ))  # fmt: skip
        item.awaited_partials = len(jobs)
        return jobs

    def _on_requested_partial(
        self, run: ActiveRun, item: PendingDecision, channel: int, utterance: Utterance,
        result: Recognition | RecogniserError,
    ) -> None:  # fmt: skip
        item.awaited_partials -= 1
        if isinstance(result, Recognition):
            item.partials.append((channel, utterance, result))
            item.partials.sort(key=lambda one: one[0])
        self._runs.mark_ready(run)
