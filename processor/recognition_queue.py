"""Batches utterances of all sessions into recogniser calls, off the event loop; live finals before all others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from processor.metrics import WorkerMetrics
from processor.recognisers import Clip, Recogniser, RecogniserError, Recognition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventlog.work.shared_recognition import Reference
    from processor.active_run import ActiveRun

log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.25
_LONGEST_RETRY_S = 15.0  # an endpoint that recovers is noticed within this
_ALIKE_AMONG = 16  # waiting utterances of recordings among which those of similar length are sought for a batch


@dataclass(slots=True, eq=False)
class Recorded:
    """An utterance of a recording: nobody waits for it the way one waits for a caption, and others may recognise it.

    Attributes:
        run: Whose it is, or None if another worker holds that.
        reference: Where its samples are.
        may_leave: Whether others may have it: not if it is theirs, nor if they have had it in vain.
    """

    run: ActiveRun | None
    reference: Reference
    may_leave: bool = True


@dataclass(slots=True, eq=False)
class Job:
    """One clip on its way through a recogniser.

    Attributes:
        clip: What to recognise.
        done: Called on the event loop with the recognition, or with the error that no retry will mend.
        wanted: Says whether anybody still waits for it; asked right before the work is done.
        asked: A partial that somebody waits for: before all others, and `done` hears of a failure too.
        recorded: Whose it is, if of a recording.
        failures: How often it was tried in vain.
        settled: Whether `done` was called.
    """

    clip: Clip
    done: Callable[[Recognition | RecogniserError], None]
    wanted: Callable[[], bool]
    asked: bool = False
    recorded: Recorded | None = None
    failures: int = 0
    settled: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether there is any use in doing it now."""
        return not self.settled and self.wanted()

    def settle(self, result: Recognition | RecogniserError) -> None:
        """Hand in the outcome; the first one counts, for what is shared may be recognised twice."""
        if not self.settled:
            self.settled = True
            self.done(result)


class RecognitionQueue:
    """Feeds one recogniser as many batches at once as it can use."""

    def __init__(
        self, recogniser: Recogniser, metrics: WorkerMetrics | None = None, *,
        has_live: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        """Use `recogniser`; the queue doesn't close it.

        While `has_live` says that somebody speaks, recordings and partials leave one call free for what they say.
        """
        self._metrics = metrics or WorkerMetrics()
        self._recogniser = recogniser
        self._finals: deque[Job] = deque()
        self._asked: deque[Job] = deque()
        self._partials: deque[Job] = deque()
        self._recorded: deque[Job] = deque()
        self._has_live = has_live
        self._recorded_calls = 0
        self._recorded_last = True
        self._turns: dict[int, int] = {}
        self._turn_count = 0
        self._running: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
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
        """How many more utterances of recordings are of use here, so that the next call need not wait for them.

        Negative: so many are better off elsewhere. While finals wait, all are.
        """
        most = 0 if self._finals else self._background_calls * self._recorded_batch
        return most - len(self._recorded)

    @property
    def _background_calls(self) -> int:
        """How many calls at once may be other than live finals."""
        most = self._recogniser.max_parallel
        return max(1, most - 1) if self._has_live() else most

    @property
    def _recorded_batch(self) -> int:
        """Clips of recordings in one call: few while somebody speaks, whose final may have to wait for it."""
        most = self._recogniser.max_batch
        return max(1, most // 2) if self._has_live() else most

    @property
    def room_for_partials(self) -> int:
        """How many partials handed in now would run at once: few, since a final that comes waits for them.

        Where calls run side by side, one of them is kept free for finals; a call takes half a batch of partials.
        """
        most = self._recogniser.max_parallel
        # A recording's call gives its place to partials when it ends.
        free = max(1, most - 1) - (len(self._running) - self._recorded_calls)
        if self._finals or self._asked or self._partials or free <= 0:
            return 0
        return free * max(1, self._recogniser.max_batch // 2)

    def submit(self, *jobs: Job) -> None:
        """Recognise clips: finals in the order handed in, then partials that somebody asked for, then the others.

        Those are other partials and the finals of recordings; where both wait they take turns.
        """
        for job in jobs:
            self._queue_of(job).append(job)
        self._dispatch()

    def submit_first(self, jobs: Sequence[Job]) -> None:
        """As `submit`, before all that waits: others had them first."""
        for job in reversed(jobs):
            self._queue_of(job).appendleft(job)
        self._dispatch()

    def withdraw(self, jobs: Sequence[Job]) -> None:
        """Take utterances of recordings back that wait here."""
        gone = set(map(id, jobs))
        self._recorded = deque(job for job in self._recorded if id(job) not in gone)

    def _queue_of(self, job: Job) -> deque[Job]:
        if job.asked:
            return self._asked
        if job.recorded:
            return self._recorded
        return self._partials if job.clip.partial else self._finals

    def close(self) -> None:
        """Drop what waits; calls that run end by themselves and tell nobody."""
        self._finals.clear()
        self._asked.clear()
        self._partials.clear()
        self._recorded.clear()
        for timer in self._timers:
            timer.cancel()
        for task in self._running:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self) -> None:
        while len(self._running) < self._recogniser.max_parallel and (batch := self._next_batch()):
            self._start(batch)

    def _start(self, batch: list[Job]) -> None:
        task = asyncio.get_running_loop().create_task(self._recognise(batch))
        self._running.add(task)
        task.add_done_callback(self._finished)

    def _next_batch(self) -> list[Job]:
        queue = self._finals or self._asked
        calls, most = self._recogniser.max_parallel, self._recogniser.max_batch
        if not queue:
            calls = self._background_calls
            if len(self._running) >= calls and self._recorded:
                return []  # the last call stays free for what is said meanwhile
            queue = self._turn()
            if queue is self._recorded:
                most = self._recorded_batch
        # An equal share for every free call: two clips on two cores take as long as one.
        most = min(most, -(-len(queue) // max(1, calls - len(self._running))))
        if queue is self._recorded:
            return self._alike(most)
        batch: list[Job] = []
        while queue and len(batch) < most:
            job = queue.popleft()
            if job.is_wanted:
                batch.append(job)
        return batch

    def _turn(self) -> deque[Job]:
        """Partials or recordings; whoever didn't have the last call, where both wait."""
        if self._partials and (self._recorded_last or not self._recorded):
            self._recorded_last = False
            return self._partials
        self._recorded_last = True
        return self._recorded

    def _alike(self, most: int) -> list[Job]:
        """The recordings' next utterance, and of those that have waited longest the most similar in length.

        What a batch pads its shorter clips with is recognised in vain.
        """
        self._recorded = deque(job for job in self._recorded if job.is_wanted)
        if not self._recorded:
            return []
        first = self._next_in_turn()
        near = [job for job in islice(self._recorded, _ALIKE_AMONG) if job is not first]
        near.sort(key=lambda job: abs(len(job.clip.pcm) - len(first.clip.pcm)))
        batch = [first, *near[: most - 1]]
        self.withdraw(batch)
        return batch

    def _next_in_turn(self) -> Job:
        """The first utterance of the recording whose turn is longest ago: a short one needn't wait for a long one."""
        firsts: dict[int, Job] = {}
        for job in self._recorded:
            firsts.setdefault(id(job.recorded.run) if job.recorded else 0, job)
        chosen = min(firsts, key=lambda run: self._turns.get(run, 0))
        self._turn_count += 1
        self._turns = {run: at for run, at in self._turns.items() if run in firsts} | {chosen: self._turn_count}
        return firsts[chosen]

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.result()
            self._dispatch()

    async def _recognise(self, batch: list[Job]) -> None:
        is_recorded = batch[0].recorded is not None
        self._recorded_calls += is_recorded
        try:
            heard = await self._call([job.clip for job in batch])
        except RecogniserError as error:
            self._failed(batch, error)
            return
        finally:
            self._recorded_calls -= is_recorded
        for job, recognition in zip(batch, heard, strict=True):
            job.settle(recognition)

    async def _call(self, clips: Sequence[Clip]) -> list[Recognition]:
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        try:
            return await loop.run_in_executor(self._threads, self._recognised, clips)
        except (RecogniserError, asyncio.CancelledError):
            raise
        except Exception as error:  # a plugged-in recogniser may raise anything; one utterance mustn't end the worker
            log.exception("recogniser failed", extra={"recogniser": self._recogniser.name, "clips": len(clips)})
            message = f"{type(error).__name__} in recogniser {self._recogniser.name}"
            raise RecogniserError(message, retryable=False) from error
        finally:
            seconds = time.monotonic() - started
            self._metrics.recognised(self._recogniser.name, partial=clips[0].partial, seconds=seconds)

    def _recognised(self, clips: Sequence[Clip]) -> list[Recognition]:
        """What the recogniser makes of the clips, in its own thread."""
        heard = self._recogniser.recognise(clips)
        if len(heard) != len(clips):
            raise ValueError(f"{len(heard)} recognitions of {len(clips)} clips")
        return heard

    def _failed(self, batch: list[Job], error: RecogniserError) -> None:
        if len(batch) > 1 and not error.retryable:
            for job in batch:  # alone each: only the clip that is to blame shall suffer
                self._again(job, 0.0)
            return
        for job in batch:
            if job.clip.partial:
                if job.asked:
                    job.settle(error)  # its answer goes without the text
                continue
            if not error.retryable:
                job.settle(error)
                continue
            job.failures += 1
            delay_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2 ** min(job.failures, 10))
            log.warning("recognition failed, trying again", extra={"delay_s": delay_s, "error": error})
            self._again(job, delay_s)

    def _again(self, job: Job, delay_s: float) -> None:
        def run() -> None:
            self._timers.discard(timer)
            if job.is_wanted:
                self._start([job])

        timer = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(timer)
