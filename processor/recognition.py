"""Batches utterances of all sessions into recogniser calls, off the event loop; finals before partials."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from processor.metrics import WorkerMetrics
from processor.recognisers import Clip, Recogniser, RecogniserError, Recognition

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.25
_LONGEST_RETRY_S = 15.0  # an endpoint that recovers is noticed within this


@dataclass(slots=True, eq=False)
class Job:
    """One clip on its way through a recogniser.

    Attributes:
        clip: What to recognise.
        done: Called on the event loop with the recognition, or with the error that no retry will mend.
        wanted: Says whether anybody still waits for it; asked right before the work is done.
        asked: A partial that somebody waits for: before all others, and `done` hears of a failure too.
    """

    clip: Clip
    done: Callable[[Recognition | RecogniserError], None]
    wanted: Callable[[], bool]
    asked: bool = False
    failures: int = 0


class RecognitionQueue:
    """Feeds one recogniser as many batches at once as it can use."""

    def __init__(self, recogniser: Recogniser, metrics: WorkerMetrics | None = None) -> None:
        """Use `recogniser`; the queue doesn't close it."""
        self._metrics = metrics or WorkerMetrics()
        self._recogniser = recogniser
        self._finals: deque[Job] = deque()
        self._asked: deque[Job] = deque()
        self._partials: deque[Job] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._threads = ThreadPoolExecutor(recogniser.max_parallel, thread_name_prefix="recogniser")

    @property
    def waiting(self) -> int:
        """How many finals wait for a free recogniser."""
        return len(self._finals)

    @property
    def room_for_partials(self) -> int:
        """How many partials handed in now would run at once: few, since a final that comes waits for them.

        Where calls run side by side, one of them is kept free for finals; a call takes half a batch of partials.
        """
        most = self._recogniser.max_parallel
        free = max(1, most - 1) - len(self._running)
        if self._finals or self._asked or self._partials or free <= 0:
            return 0
        return free * max(1, self._recogniser.max_batch // 2)

    def submit(self, *jobs: Job) -> None:
        """Recognise clips: finals in the order handed in, then partials that somebody asked for, then the others."""
        for job in jobs:
            queue = self._asked if job.asked else self._partials if job.clip.partial else self._finals
            queue.append(job)
        self._dispatch()

    def close(self) -> None:
        """Drop what waits; calls that run end by themselves and tell nobody."""
        self._finals.clear()
        self._asked.clear()
        self._partials.clear()
        for timer in self._timers:
            timer.cancel()
        for task in self._running:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self) -> None:
        while len(self._running) < self._recogniser.max_parallel and (batch := self._next_batch()):
            task = asyncio.get_running_loop().create_task(self._recognise(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _next_batch(self) -> list[Job]:
        queue = self._finals or self._asked or self._partials
        # An equal share for every free call: two clips on two cores take as long as one.
        free = self._recogniser.max_parallel - len(self._running)
        most = min(self._recogniser.max_batch, -(-len(queue) // free))
        batch: list[Job] = []
        while queue and len(batch) < most:
            job = queue.popleft()
            if job.wanted():
                batch.append(job)
        return batch

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.result()
            self._dispatch()

    async def _recognise(self, batch: list[Job]) -> None:
        try:
            heard = await self._call([job.clip for job in batch])
        except RecogniserError as error:
            self._failed(batch, error)
            return
        for job, recognition in zip(batch, heard, strict=True):
            job.done(recognition)

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
                    job.done(error)  # its answer goes without the text
                continue
            if not error.retryable:
                job.done(error)
                continue
            job.failures += 1
            delay_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2 ** min(job.failures, 10))
            log.warning("recognition failed, trying again", extra={"delay_s": delay_s, "error": error})
            self._again(job, delay_s)

    def _again(self, job: Job, delay_s: float) -> None:
        task_alone = [job]

        def run() -> None:
            self._timers.discard(timer)
            if not job.wanted():
                return
            task = asyncio.get_running_loop().create_task(self._recognise(task_alone))
            self._running.add(task)
            task.add_done_callback(self._finished)

        timer = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(timer)
