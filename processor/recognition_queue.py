"""Batches utterances of all sessions into recogniser calls, off the event loop; live finals before all others."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

from processor.fair_turns import FairTurns
from processor.metrics import WorkerMetrics
from processor.recogniser_load import RecogniserLoad
from processor.recognisers import Recogniser, RecogniserError
from processor.recognition_job import Job, JobKind

log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.25
_LONGEST_RETRY_S = 15.0  # an endpoint that recovers is noticed within this
_SIMILAR_AMONG = 16  # waiting utterances of recordings among which a batch's similar lengths are sought

_BACKLOG_SHARE = 0.25
"""Of the recogniser, for sessions that are behind, while live finals wait all the time."""

_BACKLOG_CALL_S = 10.0
"""Speech after which a call for sessions that are behind takes no more clips: a second or two of Whisper's time, for
which a live final may have to wait where no call is free, and partials do."""


class RecognitionQueue:
    """Feeds one recogniser as many batches at once as it can use.

    Finals of live speech come first, then open utterances that requests wait for, then early finals. Partials, sessions
    that are behind and recordings share the rest, in turn. Within each kind tenants take turns, then sessions.
    """

    def __init__(
        self, recogniser: Recogniser, metrics: WorkerMetrics | None = None, *,
        has_live: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        """Use `recogniser`; the queue does not close it.

        While `has_live` says that a live session is held, all others leave one call free for its finals.
        """
        self._metrics = metrics or WorkerMetrics()
        self._recogniser = recogniser
        self._waiting = {kind: FairTurns[Job]() for kind in JobKind if kind != JobKind.RECORDED}
        self._finals = self._waiting[JobKind.FINAL]
        self._requested = self._waiting[JobKind.REQUESTED]
        self._early = self._waiting[JobKind.EARLY]
        self._partials = self._waiting[JobKind.PARTIAL]
        self._behind = self._waiting[JobKind.BEHIND]
        self._recorded: deque[Job] = deque()
        self._has_live = has_live
        self._calls = Counter[JobKind]()
        self.on_idle: Callable[[], None] = lambda: None
        """Called when a call has ended and its place was not needed."""
        self._last_in_background = 2
        self._backlog_credit = 0.0
        self._turns: dict[str | int, int] = {}
        self._turn_count = 0
        self._running: set[asyncio.Task[None]] = set()
        self._retry_timers: set[asyncio.TimerHandle] = set()
        self._threads = ThreadPoolExecutor(recogniser.max_parallel, thread_name_prefix="recogniser")
        self.load = RecogniserLoad(recogniser.max_parallel)

    @property
    def waiting(self) -> int:
        """How many finals wait for a free recogniser."""
        return len(self._finals) + len(self._behind) + len(self._recorded)

    @property
    def waiting_live(self) -> int:
        """How many of them are of live speech."""
        return len(self._finals)

    @property
    def recorded(self) -> Sequence[Job]:
        """Utterances of recordings that wait, the next one first."""
        return self._recorded

    @property
    def max_batch(self) -> int:
        """How many clips one call takes."""
        return self._recogniser.max_batch

    @property
    def max_parallel(self) -> int:
        """How many calls at once are of use."""
        return self._recogniser.max_parallel

    @property
    def room_for_recorded(self) -> int:
        """How many more utterances of recordings should wait here, so that the next call need not wait for them.

        Negative: so many are better off elsewhere. While finals wait, all are.
        """
        most = 0 if self._finals or self._behind else self._background_calls * self._background_batch
        return most - len(self._recorded)

    @property
    def room_for_partials(self) -> int:
        """How many partials submitted now would run at once: few, since a final that comes may wait for them.

        Where calls run side by side, one of them is left to finals; a call takes half a batch of partials.
        """
        # A call of a recording, or of a session that is behind, yields to partials when it ends.
        others = len(self._running) - self._yielding_calls
        if self._finals or self._requested or self._early or self._partials or others >= self._recogniser.max_parallel:
            return 0
        free = max(1, self._recogniser.max_parallel - 1) - self._calls[JobKind.PARTIAL]
        return max(0, free) * max(1, self._recogniser.max_batch // 2)

    def submit(self, *jobs: Job) -> None:
        """Recognise clips: live finals, then requested partials, then early finals, then the others.

        The others are partials, finals of sessions that are behind, and finals of recordings.
        """
        for job in jobs:
            if (kind := job.kind) == JobKind.RECORDED:
                self._recorded.append(job)
            else:
                self._waiting[kind].push(job, tenant=job.tenant, session=job.session, cost=job.cost_s)
        while len(self._running) < self._recogniser.max_parallel and (batch := self._next_batch()):
            self._start(batch)

    def return_recorded(self, jobs: Sequence[Job]) -> None:
        """Recognise utterances of recordings before all others of recordings: they have been elsewhere in vain."""
        self._recorded.extendleft(reversed(jobs))
        self.submit()

    def withdraw(self, jobs: Sequence[Job]) -> None:
        """Remove utterances of recordings that wait here."""
        withdrawn = set(map(id, jobs))
        self._recorded = deque(job for job in self._recorded if id(job) not in withdrawn)

    def close(self) -> None:
        """Drop all waiting jobs; running calls end by themselves and report no result."""
        for queue in self._waiting.values():
            queue.clear()
        self._recorded.clear()
        for timer in self._retry_timers:
            timer.cancel()
        for task in self._running:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def _yielding_calls(self) -> int:
        return self._calls[JobKind.RECORDED] + self._calls[JobKind.BEHIND]

    @property
    def _background_calls(self) -> int:
        """How many calls at once may be of partials, of sessions that are behind, and of recordings."""
        most = self._recogniser.max_parallel
        return max(1, most - 1) if self._has_live() else most

    @property
    def _background_batch(self) -> int:
        """Clips in one such call: few while a live session is held, whose final may have to wait for it."""
        most = self._recogniser.max_batch
        return max(1, most // 2) if self._has_live() else most

    def _next_batch(self) -> list[Job]:
        calls, most = self._recogniser.max_parallel, self._recogniser.max_batch
        if self._is_turn_of_backlog():
            return self._backlog_batch(1)
        while queue := self._finals or self._requested or self._early:
            if batch := self._take(queue, self._equal_share(len(queue), calls, most)):
                return batch
        calls = self._background_calls
        while (background := self._next_background_queue()) is not None:
            if background is self._partials:
                batch = self._take(self._partials, self._equal_share(len(background), calls, most))
            else:
                share = self._equal_share(len(background), calls, self._background_batch)
                batch = self._recorded_batch(share) if background is self._recorded else self._backlog_batch(share)
            if batch:
                return batch
        return []

    def _equal_share(self, waiting: int, calls: int, most: int) -> int:
        """Clips for the next call, an equal share for every free one: two clips on two cores take as long as one."""
        return min(most, -(-waiting // max(1, calls - len(self._running))))

    def _take(self, queue: FairTurns[Job], most: int, audio_s: float = float("inf")) -> list[Job]:
        """The next jobs of a queue that are still of use, at most so many and so much speech, but one at least."""
        batch: list[Job] = []
        while queue and len(batch) < most and audio_s > 0:
            job = queue.pop()
            if not job.is_obsolete:
                batch.append(job)
                audio_s -= job.audio_s
        if queue is self._finals and self._behind:
            self._backlog_credit += sum(job.cost_s for job in batch) * _BACKLOG_SHARE / (1 - _BACKLOG_SHARE)
        return batch

    def _is_turn_of_backlog(self) -> bool:
        """Whether live finals that wait have had so much that a session that is behind comes before the next."""
        is_possible = self._yielding_calls < self._background_calls
        return is_possible and self._backlog_credit > 0 and bool(self._behind and self._finals)

    def _backlog_batch(self, most: int) -> list[Job]:
        batch = self._take(self._behind, most, _BACKLOG_CALL_S)
        if self._finals:
            self._backlog_credit -= sum(job.cost_s for job in batch)
        else:
            self._backlog_credit = 0.0  # nothing was taken from live speech
        return batch

    def _next_background_queue(self) -> FairTurns[Job] | deque[Job] | None:
        """Partials, sessions that are behind, or recordings: of those that wait the one that had a call longest ago."""
        queues = (self._partials, self._behind, self._recorded)
        most = self._background_calls
        # Partials are short: they may run beside finals, as long as one call is left to these. The others are long.
        may_run = self._calls[JobKind.PARTIAL] + self._yielding_calls < most, len(self._running) < most
        for step in range(1, len(queues) + 1):
            number = (self._last_in_background + step) % len(queues)
            if queues[number] and may_run[min(number, 1)]:
                self._last_in_background = number
                return queues[number]
        return None

    def _recorded_batch(self, most: int) -> list[Job]:
        """The recordings' next utterance, and of those that have waited longest the most similar in length.

        Padding to the longest clip of a batch is recognised in vain.
        """
        self._recorded = deque(job for job in self._recorded if not job.is_obsolete)
        if not self._recorded:
            return []
        first = self._next_recorded()
        near = [job for job in islice(self._recorded, _SIMILAR_AMONG) if job is not first]
        near.sort(key=lambda job: abs(len(job.clip.pcm) - len(first.clip.pcm)))
        batch = [first, *near[: most - 1]]
        self.withdraw(batch)
        return batch

    def _next_recorded(self) -> Job:
        """The first utterance of the tenant and there of the recording whose turn is longest ago.

        So a short recording need not wait for a long one.
        """
        firsts: dict[tuple[str, int], Job] = {}
        for job in self._recorded:
            firsts.setdefault((job.tenant, id(job.recorded.run) if job.recorded else 0), job)
        tenant, run = min(firsts, key=lambda one: (self._turns.get(one[0], 0), self._turns.get(one[1], 0)))
        self._turn_count += 1
        known = {name for one in firsts for name in one}
        self._turns = {name: at for name, at in self._turns.items() if name in known}
        self._turns[tenant] = self._turns[run] = self._turn_count
        return firsts[tenant, run]

    def _start(self, batch: list[Job]) -> None:
        task = asyncio.get_running_loop().create_task(self._recognise(batch))
        self._running.add(task)
        kind = batch[0].kind
        self._calls[kind] += 1
        task.add_done_callback(partial(self._on_call_end, kind))

    def _on_call_end(self, kind: JobKind, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._calls[kind] -= 1
        if not task.cancelled():
            task.result()
            self.submit()
            if len(self._running) < self._recogniser.max_parallel:
                self.on_idle()

    async def _recognise(self, batch: list[Job]) -> None:
        """Call the recogniser in its own thread, and settle the batch or handle its failure."""
        recogniser, clips = self._recogniser, [job.clip for job in batch]
        for job in batch:
            job.is_running = True
        self.load.begin(id(batch), yields=batch[0].kind in {JobKind.RECORDED, JobKind.BEHIND})
        try:
            recognitions = await asyncio.get_running_loop().run_in_executor(self._threads, recogniser.recognise, clips)
            if len(recognitions) != len(clips):
                raise ValueError(f"{len(recognitions)} recognitions of {len(clips)} clips")  # noqa: TRY301 -- handled as the recogniser's own
        except RecogniserError as error:
            self._handle_failure(batch, error)
            return
        except Exception as error:  # a plugged-in recogniser may raise anything; one utterance must not end the worker
            log.exception("recogniser failed", extra={"recogniser": recogniser.name, "clips": len(clips)})
            message = f"{type(error).__name__} in recogniser {recogniser.name}"
            self._handle_failure(batch, RecogniserError(message, retryable=False))
            return
        finally:
            seconds = self.load.end(id(batch), is_partial=clips[0].partial)
            self._metrics.observe_recognition(recogniser.name, partial=clips[0].partial, seconds=seconds)
            for job in batch:
                job.is_running, job.seconds = False, seconds / len(batch)
        for job, recognition in zip(batch, recognitions, strict=True):
            job.settle(recognition)

    def _handle_failure(self, batch: list[Job], error: RecogniserError) -> None:
        if len(batch) > 1 and not error.retryable:
            for job in batch:  # each alone, so that only the clip at fault fails
                self._retry(job, 0.0)
            return
        for job in batch:
            if job.clip.partial or job.is_early or not error.retryable:
                job.settle(error)  # a provisional text is not worth a second try: newer audio supersedes it
            else:
                job.failures += 1
                delay_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2 ** min(job.failures, 10))
                log.warning("recognition failed; retrying", extra={"delay_s": delay_s, "error": error})
                self._retry(job, delay_s)

    def _retry(self, job: Job, delay_s: float) -> None:
        def start() -> None:
            self._retry_timers.discard(timer)
            if not job.is_obsolete:
                self._start([job])

        timer = asyncio.get_running_loop().call_later(delay_s, start)
        self._retry_timers.add(timer)
