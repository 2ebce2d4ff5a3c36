"""Batches utterances of all sessions into recogniser calls, off the event loop; live finals before all others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from eventlog.work.shared_recognition import Reference
from processor.active_runs import ActiveRun
from processor.metrics import WorkerMetrics
from processor.recognisers import Clip, Recogniser, RecogniserError, Recognition

log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.25
_LONGEST_RETRY_S = 15.0  # an endpoint that recovers is noticed within this
_SIMILAR_AMONG = 16  # waiting utterances of recordings among which a batch's similar lengths are sought


@dataclass(slots=True, eq=False)
class RecordedUtterance:
    """An utterance of a recording: no speaker waits for its caption, and other workers may recognise it.

    Attributes:
        run: Its run, or None if another worker holds that.
        reference: Where its samples are.
        may_be_offered: Whether other workers may get it: not if it is theirs, nor if they failed to recognise it.
    """

    run: ActiveRun | None
    reference: Reference
    may_be_offered: bool = True


@dataclass(slots=True, eq=False)
class Job:
    """One clip on its way through a recogniser.

    Attributes:
        clip: What to recognise.
        on_result: Called on the event loop with the recognition, or with an error that no retry can fix.
        is_cancelled: Says whether its result is of no use any more; called right before the work is done.
        is_requested: A partial that a client's request waits for: before all others, and reported even if it fails.
        recorded: Its place in a recording, if it is of one.
        failures: How many tries failed.
        is_settled: Whether `on_result` was called.
    """

    clip: Clip
    on_result: Callable[[Recognition | RecogniserError], None]
    is_cancelled: Callable[[], bool]
    is_requested: bool = False
    recorded: RecordedUtterance | None = None
    failures: int = 0
    is_settled: bool = False

    @property
    def is_obsolete(self) -> bool:
        """Whether doing it now would be in vain."""
        return self.is_settled or self.is_cancelled()

    def settle(self, result: Recognition | RecogniserError) -> None:
        """Report the outcome; the first one counts, since a shared utterance may be recognised twice."""
        if not self.is_settled:
            self.is_settled = True
            self.on_result(result)


class RecognitionQueue:
    """Feeds one recogniser as many batches at once as it can use."""

    def __init__(
        self, recogniser: Recogniser, metrics: WorkerMetrics | None = None, *,
        has_live: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        """Use `recogniser`; the queue does not close it.

        While `has_live` says that a live session is held, recordings and partials leave one call free for its finals.
        """
        self._metrics = metrics or WorkerMetrics()
        self._recogniser = recogniser
        self._finals: deque[Job] = deque()
        self._requested: deque[Job] = deque()
        self._partials: deque[Job] = deque()
        self._recorded: deque[Job] = deque()
        self._has_live = has_live
        self._recorded_calls = 0
        self._was_recorded_last = True
        self._turns: dict[int, int] = {}
        self._turn_count = 0
        self._running: set[asyncio.Task[None]] = set()
        self._retry_timers: set[asyncio.TimerHandle] = set()
        self._threads = ThreadPoolExecutor(recogniser.max_parallel, thread_name_prefix="recogniser")

    @property
    def waiting(self) -> int:
        """How many finals wait for a free recogniser."""
        return len(self._finals) + len(self._recorded)

    @property
    def recorded(self) -> Sequence[Job]:
        """Utterances of recordings that wait, the next one first."""
        return self._recorded

    @property
    def room_for_recorded(self) -> int:
        """How many more utterances of recordings should wait here, so that the next call need not wait for them.

        Negative: so many are better off elsewhere. While finals wait, all are.
        """
        most = 0 if self._finals else self._background_calls * self._recorded_batch
        return most - len(self._recorded)

    @property
    def room_for_partials(self) -> int:
        """How many partials submitted now would run at once: few, since a final that comes waits for them.

        Where calls run side by side, one of them is kept free for finals; a call takes half a batch of partials.
        """
        most = self._recogniser.max_parallel
        # A recording's call yields to partials when it ends.
        free = max(1, most - 1) - (len(self._running) - self._recorded_calls)
        if self._finals or self._requested or self._partials or free <= 0:
            return 0
        return free * max(1, self._recogniser.max_batch // 2)

    def submit(self, *jobs: Job) -> None:
        """Recognise clips: finals in the order submitted, then requested partials, then the others.

        The others are partials and the finals of recordings; where both wait they take turns.
        """
        for job in jobs:
            if job.is_requested:
                self._requested.append(job)
            elif job.recorded:
                self._recorded.append(job)
            elif job.clip.partial:
                self._partials.append(job)
            else:
                self._finals.append(job)
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
        for queue in (self._finals, self._requested, self._partials, self._recorded):
            queue.clear()
        for timer in self._retry_timers:
            timer.cancel()
        for task in self._running:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def _background_calls(self) -> int:
        """How many calls at once may be other than live finals."""
        most = self._recogniser.max_parallel
        return max(1, most - 1) if self._has_live() else most

    @property
    def _recorded_batch(self) -> int:
        """Clips of recordings in one call: few while a live session is held, whose final may have to wait for it."""
        most = self._recogniser.max_batch
        return max(1, most // 2) if self._has_live() else most

    def _next_batch(self) -> list[Job]:
        queue = self._finals or self._requested
        calls, most = self._recogniser.max_parallel, self._recogniser.max_batch
        if not queue:
            calls = self._background_calls
            if len(self._running) >= calls and self._recorded:
                return []  # the last call stays free for a live final
            queue = self._next_background_queue()
            if queue is self._recorded:
                most = self._recorded_batch
        # An equal share for every free call: two clips on two cores take as long as one.
        most = min(most, -(-len(queue) // max(1, calls - len(self._running))))
        if queue is self._recorded:
            return self._recorded_batch_of(most)
        batch: list[Job] = []
        while queue and len(batch) < most:
            job = queue.popleft()
            if not job.is_obsolete:
                batch.append(job)
        return batch

    def _next_background_queue(self) -> deque[Job]:
        """Partials or recordings: where both wait, the one that did not have the last call."""
        self._was_recorded_last = not self._partials or not (self._was_recorded_last or not self._recorded)
        return self._recorded if self._was_recorded_last else self._partials

    def _recorded_batch_of(self, most: int) -> list[Job]:
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
        """The first utterance of the recording whose turn is longest ago: a short one need not wait for a long one."""
        firsts: dict[int, Job] = {}
        for job in self._recorded:
            firsts.setdefault(id(job.recorded.run) if job.recorded else 0, job)
        chosen = min(firsts, key=lambda run: self._turns.get(run, 0))
        self._turn_count += 1
        self._turns = {run: at for run, at in self._turns.items() if run in firsts} | {chosen: self._turn_count}
        return firsts[chosen]

    def _start(self, batch: list[Job]) -> None:
        task = asyncio.get_running_loop().create_task(self._recognise(batch))
        self._running.add(task)
        task.add_done_callback(self._on_call_end)

    def _on_call_end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.result()
            self.submit()

    async def _recognise(self, batch: list[Job]) -> None:
        """Call the recogniser in its own thread, and settle the batch or handle its failure."""
        recogniser, clips = self._recogniser, [job.clip for job in batch]
        is_recorded = batch[0].recorded is not None
        self._recorded_calls += is_recorded
        started = time.monotonic()
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
            self._recorded_calls -= is_recorded
            seconds = time.monotonic() - started
            self._metrics.observe_recognition(recogniser.name, partial=clips[0].partial, seconds=seconds)
        for job, recognition in zip(batch, recognitions, strict=True):
            job.settle(recognition)

    def _handle_failure(self, batch: list[Job], error: RecogniserError) -> None:
        if len(batch) > 1 and not error.retryable:
            for job in batch:  # each alone, so that only the clip at fault fails
                self._retry(job, 0.0)
            return
        for job in batch:
            if job.clip.partial:
                if job.is_requested:
                    job.settle(error)  # its answer goes without the text
            elif not error.retryable:
                job.settle(error)
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
