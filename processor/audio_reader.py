"""Reads the audio of all runs on a tick, and turns it into decisions, recognition jobs and partials."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from eventlog.codec import UndecodableEventError
from eventlog.keys import LIVE_RUN
from eventlog.log import AudioEntry, EventLog, LogUnavailableError
from eventlog.work.replays import LOG
from processor.active_run import ActiveRun, PendingDecision
from processor.archive_prefetch import ArchivePrefetch
from processor.recognisers import RecogniserError, Recognition
from processor.recognition_queue import Job, RecognitionQueue, Recorded
from processor.speech import SHORTEST_MS, Utterance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eventlog.keys import SessionKeys
    from eventlog.positions import Position
    from processor.active_runs import ActiveRuns
    from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

LONGEST_REST_MS = 120
"""However long a client's chunks are, its control events shouldn't wait for longer."""

YIELD_S = 0.01
"""Segmenting goes on this long before other tasks (commits, renewals) get their turn."""


class Reader:
    """The worker's read loop: the one place where audio enters."""

    def __init__(
        self,
        log_: EventLog,
        holdings: ActiveRuns,
        recognition: RecognitionQueue,
        settings: WorkerSettings,
        *,
        on_trouble: Callable[[], None],
        on_poison: Callable[[ActiveRun, str], None],
    ) -> None:
        """Read through `log_`; `on_poison` is told of a run that this build can't process, with the reason."""
        self._log = log_
        self._holdings = holdings
        self._recognition = recognition
        self._settings = settings
        self._archived = ArchivePrefetch(settings.archive, batch_bytes=settings.max_read_bytes)
        self._on_trouble = on_trouble
        self._on_poison = on_poison
        self.consumed_at = time.monotonic()
        """When a round of reads last went through, monotonic time in seconds."""
        self.segmenting_s = 0.0
        """Time spent on turning audio into decisions, so far."""

    async def run(self) -> None:
        """Read until cancelled; without pause while there is more than one read takes."""
        tick_s = self._settings.tick_ms / 1000
        try:
            while True:
                started = time.monotonic()
                more = await self.tick()
                await asyncio.sleep(0.0 if more else max(0.0, tick_s - (time.monotonic() - started)))
        finally:
            self._archived.close()

    async def tick(self) -> bool:
        """Read once what is new of every run that has room for it, and work on it; whether there is surely more."""
        wanting = list(self._wanting())
        more = await self._take_archived(wanting)
        for cursors, runs in self._rounds(wanting):
            try:
                found = await self._log.read(cursors, max_bytes_each=self._settings.max_read_bytes)
            except LogUnavailableError as error:
                log.warning("audio not read, trying again", extra={"error": error})
                self._on_trouble()
                await asyncio.sleep(self._settings.tick_ms / 1000)
                return False
            await self._work(found, runs)
            more = more or any(_has_more(runs[keys.session_id]) for keys in found)
        self.consumed_at = time.monotonic()
        return more

    def _wanting(self) -> Iterator[ActiveRun]:
        """The runs that have room for more audio, and of which some may be due."""
        most = self._settings.max_pending_utterances
        # What lies ahead in all recordings together, for each utterance is kept in memory until it is committed.
        ahead = sum(run.waiting_utterances for run in self._holdings if run.waiting_utterances >= most)
        may_go_ahead = self._settings.shared_recognition and ahead < self._settings.max_shared_utterances
        for run in self._holdings:
            timeline = run.timeline
            if run.resting_ticks:
                run.resting_ticks -= 1
                continue
            if timeline.ended or (run.waiting_utterances >= most and not (may_go_ahead and run.is_recorded)):
                continue
            yield run

    async def _take_archived(self, wanting: Sequence[ActiveRun]) -> bool:
        """Work on what was read of archived runs meanwhile; whether there was anything."""
        found = self._archived.take(run for run in wanting if run.source != LOG)
        for batch in found:
            if batch.trouble:
                self._on_poison(batch.run, batch.trouble)
            elif batch.run.held:
                started = time.monotonic()
                self._take(batch.run, batch.entries)
                self.segmenting_s += time.monotonic() - started
                await asyncio.sleep(0)
        return bool(found)

    def _rounds(self, wanting: Sequence[ActiveRun]) -> list[tuple[dict[SessionKeys, Position], dict[str, ActiveRun]]]:
        """Cursors to read, each session once a round: a replay reads the same stream as the live run."""
        cursors: dict[SessionKeys, Position] = {}
        runs: dict[str, ActiveRun] = {}
        rounds = [(cursors, runs)]
        for run in wanting:
            if run.source != LOG:
                continue
            keys = run.claim.keys.session
            session_id = keys.session_id
            if session_id in runs:
                rounds.append(({keys: run.timeline.cursor}, {session_id: run}))
            else:
                cursors[keys] = run.timeline.cursor
                runs[session_id] = run
        return rounds

    async def _work(self, found: dict[SessionKeys, list[AudioEntry]], runs: dict[str, ActiveRun]) -> None:
        yielded = time.monotonic()
        for keys, entries in found.items():
            run = runs[keys.session_id]
            if run.held:
                self._take(run, entries)
                self._rest(run, entries)
            if (worked_s := time.monotonic() - yielded) > YIELD_S:
                self.segmenting_s += worked_s
                await asyncio.sleep(0)
                yielded = time.monotonic()
        self.segmenting_s += time.monotonic() - yielded

    def _rest(self, run: ActiveRun, entries: list[AudioEntry]) -> None:
        """Don't ask before more is due: a live client's next chunk comes as much later as the last one is long.

        At 100 ms a chunk and a tick of 20 ms, four of five reads of a stream would find nothing.
        """
        last = entries[-1]
        if last.pcm is None or len(entries) > 1 or _has_more(run):
            return  # a control event, or a backlog: look again at once
        samples = len(last.pcm) // run.timeline.frame_bytes
        chunk_ms = min(samples * 1000 // run.start.sample_rate_hz, LONGEST_REST_MS)
        # A tick is taken off for the one that is on its way anyway, another for jitter.
        run.resting_ticks = max(0, chunk_ms // self._settings.tick_ms - 2)

    def _take(self, run: ActiveRun, entries: list[AudioEntry]) -> None:
        feed = run.timeline.feed
        jobs: list[Job] = []
        decided = False
        for entry in entries:
            try:
                decisions = feed(entry)
            except (UndecodableEventError, ValueError) as error:
                log.exception("run can't be processed", extra={"run": run.claim.keys.member, "at": str(entry.position)})
                self._on_poison(run, f"entry {entry.position}: {error}")
                return
            for decision in decisions:
                decided = True
                item = PendingDecision(decision)
                run.pending.append(item)
                if decision.source is not None:
                    run.total_samples = decision.source.duration_samples
                if decision.utterance is not None:
                    run.waiting_utterances += 1
                    jobs.append(self._job(run, item, decision.utterance))
                if decision.asked:
                    jobs += self._asked(run, item)
        if decided:
            self._recognition.submit(*jobs)
            self._holdings.mark_ready(run)

    def _asked(self, run: ActiveRun, item: PendingDecision) -> list[Job]:
        """What must be recognised of open utterances before a question can be answered."""
        jobs: list[Job] = []
        for channel, utterance in item.decision.open:
            if utterance.voiced_ms < SHORTEST_MS:
                continue

            def done(
                result: Recognition | RecogniserError, channel: int = channel, utterance: Utterance = utterance
            ) -> None:
                item.awaited -= 1
                if isinstance(result, Recognition):
                    item.heard.append((channel, utterance, result))
                    item.heard.sort(key=lambda one: one[0])
                self._holdings.mark_ready(run)

            item.awaited += 1
            jobs.append(Job(run.clip(utterance, partial=True), done, lambda: run.held, asked=True))
        return jobs

    def _job(self, run: ActiveRun, item: PendingDecision, utterance: Utterance) -> Job:
        def done(result: Recognition | RecogniserError) -> None:
            if isinstance(result, RecogniserError):
                self._on_poison(run, f"utterance before {item.decision.cursor}: {result}")
                return
            item.recognition = result
            self._holdings.mark_ready(run)

        recorded = None
        if run.is_recorded:
            # References name ranges of the log's audio, which what is read from an archive isn't in.
            reference = run.reference(item.decision.channel, utterance)
            recorded = Recorded(run, reference, may_leave=run.source == LOG)
        return Job(run.clip(utterance), done, lambda: run.held, recorded=recorded)


def _has_more(run: ActiveRun) -> bool:
    """Whether the rest of its audio is there already: a replay's is, up to the end."""
    return run.claim.keys.run != LIVE_RUN and run.held and not run.timeline.ended
