"""One sink at work in one process: claims partitions, pulls facts, sends events, moves positions."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from eventlog.keys import RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.projection.dead_letters import DeadLetter
from eventlog.projection.projection_log import Applied, ProjectionLog
from eventlog.projection.sink_state import PartitionClaims
from eventlog.service import ServiceTasks
from projections.forwarding.batch_reader import UNREACHED_PAUSE_S, BatchReader
from projections.forwarding.delivery import Delivered, deliver
from projections.forwarding.event_batches import Batch, Judge
from projections.forwarding.notice_reader import NoticeReader
from projections.forwarding.partition_assignment import PartitionAssignment
from projections.forwarding.progress_writer import RETRY_S, ProgressWriter
from projections.forwarding.run_scheduler import RunScheduler
from projections.forwarding.sink import Sink
from projections.forwarding.sink_stats import SinkStats

FINISH_S = 3.0
"""How long deliveries under way may take at the end; another forwarder sends again what they leave."""

STOP_TIMEOUT_S = 5.0
"""Bound of stopping: `FINISH_S`, and what Redis takes to note the end; past it claims run out by themselves."""

CALLS_READY = 2
"""Calls' worth of events made ready while others are under way: enough that no delivery slot is ever idle."""

MOST_UNWRITTEN = 1024
"""Runs whose progress a part of Redis that is away can't take: past this nothing more is pulled."""

START_RETRY_S = 5.0
"""A sink that can't even be started has a defect; others continue, and this one is tried again."""

_AT_ONCE = float("-inf")

_log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """The bounds of a forwarder, and its sources of time and chance.

    Attributes:
        lease_ms: For how long a claim on a partition lasts without being renewed.
        give_up_s: How long an event is tried.
        session_ttl_s: Time to live of the keys written, seconds.
        with_words: Whether events hold each word with its times.
        clock: Monotonic seconds.
        draw: A random number from 0 to 1.
    """

    lease_ms: int
    give_up_s: float
    session_ttl_s: int
    with_words: bool = False
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random


class Forwarder:
    """The service of one sink in one process; any number may run, each with its own partitions.

    A round of its loop follows the data: notices, scheduled runs, pulled facts, batches, deliveries, results, progress.
    A sink that fails is retried; a defect of the loop ends the service.
    """

    def __init__(self, sink: Sink, log: ProjectionLog, terms: Terms) -> None:
        """Forward the events of `log` to `sink`."""
        self.sink = sink
        self.stats = SinkStats(sink.name)
        self._log = log
        self._terms = terms
        self._clock = terms.clock
        self._runs: RunScheduler[RunKeys] = RunScheduler()
        self._dead_letters: RunScheduler[DeadLetter] = RunScheduler()
        claims = PartitionClaims(log.server, sink.name, log.consumer, lease_ms=terms.lease_ms)
        self.assignment = PartitionAssignment(claims, terms.clock)
        self._woken = asyncio.Event()
        self.notices = NoticeReader(log, self._runs, self._dead_letters, terms.clock, self._woken)
        self._reader = BatchReader(log, sink.kinds, self._runs, self._dead_letters, terms.clock)
        self._ready = self._reader.ready
        self._progress = ProgressWriter(
            log, self._runs, self._dead_letters, self._ready,
            clock=terms.clock, draw=terms.draw, session_ttl_s=terms.session_ttl_s,
        )  # fmt: skip
        self._deliveries: dict[asyncio.Task[list[Delivered]], list[tuple[Batch, int]]] = {}
        self._tasks = ServiceTasks()
        self._is_stopping = False
        self._is_down = False
        self._retry_s = _AT_ONCE
        self._has_more = False

    @property
    def is_idle(self) -> bool:
        """Whether it knows of nothing to do."""
        return not (len(self._runs) or len(self._dead_letters) or len(self._progress) or self.notices.is_walking)

    @property
    def _has_room(self) -> bool:
        wanted = CALLS_READY * self.sink.most_calls * self.sink.most_events
        return sum(len(batch.pending) for batch in self._ready) < wanted and len(self._progress) < MOST_UNWRITTEN

    async def start(self) -> None:
        """Begin to forward; returns at once, also while Redis or the sink can't be reached."""
        if not self._is_stopping:
            self._tasks.spawn(f"forwarder {self.sink.name}", self._forward())

    async def wait(self) -> None:
        """See `Service`."""
        await self._tasks.wait()

    async def stop(self) -> None:
        """Finish the deliveries under way, within a bound, and free the partitions and the sink."""
        self._is_stopping = True
        self._woken.set()
        await self._tasks.stop(timeout_s=STOP_TIMEOUT_S)
        await self.sink.stop()

    def wake_to_claim(self) -> None:
        """Rebalance at once: a partition has no forwarder any more."""
        self.assignment.next_rebalance_s = self._clock()
        self._woken.set()

    async def _forward(self) -> None:
        try:
            await self._start_sink()
            while not self._is_stopping:
                await self._wait_for_work()
                if not self._is_stopping:
                    await self._attempt(self._round)
            await self._finish()
        finally:
            for task in self._deliveries:
                task.cancel()

    async def _round(self) -> None:
        """Do once whatever can be done, in the order of the data."""
        now_s = self._clock()
        if now_s >= self.assignment.next_rebalance_s:
            await self._rebalance()
        if now_s >= self.notices.catch_up_s:
            await self.notices.catch_up()
        if now_s >= self.notices.next_read_s:
            await self.notices.read()
        for scheduler in (self._runs, self._dead_letters):
            if now_s >= scheduler.next_due_s:
                scheduler.wake(now_s)
        waiting, self._has_more = self._runs.ready + self._dead_letters.ready, False
        if waiting and self._has_room:
            await self._reader.pull(self.assignment.sendable)
            # Also if nothing came of them: thousands of runs without news are walked over as fast as others.
            self._has_more = self._runs.ready + self._dead_letters.ready < waiting
        if self._ready:
            self._start_deliveries()
        if self._reader.empty or any(task.done() for task in self._deliveries):
            self._judge_results()
        if now_s >= self._progress.next_s:
            await self._progress.write()

    async def _rebalance(self) -> None:
        """Renew the claims on partitions; gain and lose some, so that all living forwarders have a fair share."""
        now_s = self._clock()
        busy = {batch.keys.partition for call in self._deliveries.values() for batch, _ in call}
        busy |= {one.batch.keys.partition for one in self._progress.unwritten}
        held = len(self.assignment)
        self.stats.partitions = held
        self.stats.waiting = self._runs.waiting + self._dead_letters.waiting
        self.stats.failing_s = max(self._runs.oldest_failing_s(now_s), self._dead_letters.oldest_failing_s(now_s))
        gained, lost = await self.assignment.rebalance(self.stats.payload(), busy)
        self.notices.revoke(lost)
        self.notices.assign(gained)
        if len(self.assignment) != held:
            _log.info("partitions assigned", extra={"sink": self.sink.name, "partitions": len(self.assignment)})

    def _start_deliveries(self) -> None:
        """Start as many calls of the sink as it has places and events for."""
        sendable = self.assignment.sendable
        places = self.sink.most_calls - sum(not task.done() for task in self._deliveries)
        while self._ready and places:
            call: list[tuple[Batch, int]] = []
            room = self.sink.most_events
            while self._ready and room:
                batch = self._ready.popleft()
                if batch.keys.partition not in sendable:
                    scheduler = self._runs if batch.dead_letter is None else self._dead_letters
                    scheduler.put_back(batch.name)
                    continue
                count = min(room, len(batch.pending))
                call.append((batch, count))
                room -= count
            if call:
                work = deliver(
                    self._log.server, self.sink, call, self.assignment, with_words=self._terms.with_words
                )
                task = asyncio.create_task(work, name=f"deliver to {self.sink.name}")
                self._deliveries[task] = call
                task.add_done_callback(lambda _: self._woken.set())
                places -= 1

    def _judge_results(self) -> None:
        """Turn the results of deliveries that ended into progress."""
        delivered: list[Delivered] = [(batch, ()) for batch in self._reader.empty]
        self._reader.empty.clear()
        for task in [task for task in self._deliveries if task.done()]:
            delivered += task.result()
            del self._deliveries[task]
        if delivered and self.assignment.releasing:  # as soon as a partition is idle another forwarder can have it
            self.assignment.next_rebalance_s = self._clock()
        now_ms = time.time_ns() // 1_000_000
        judge = Judge(self.sink.name, self._log.consumer, self._terms.give_up_s, self._clock(), now_ms)
        for batch, results in delivered:
            scheduler = self._runs if batch.dead_letter is None else self._dead_letters
            if results is None:  # the claim was stale, or the facts could not be reached
                if batch.keys.partition in self.assignment.sendable:
                    scheduler.postpone(batch.name, self._clock() + UNREACHED_PAUSE_S)
                else:
                    scheduler.put_back(batch.name)
                continue
            progress = judge.judge(batch, results, scheduler.retries.get(batch.name))
            self.stats.forwarded += progress.sent
            if progress.sent < len(results) or progress.dead_letters or self.stats.is_failing:
                self.stats.record_failures(progress, results)
            if batch.dead_letter is not None and (redriven := progress.redriven) is not None:
                self._progress.unwritten_dead_letters.append(redriven)
            elif progress.dead_letters or progress.position != batch.after:
                self._progress.unwritten.append(progress)
            else:
                self._progress.written.append((progress, Applied(Code.OK)))

    async def _wait_for_work(self) -> None:
        while (pause_s := self._next_s() - self._clock()) > 0:
            handle = asyncio.get_running_loop().call_later(pause_s, self._woken.set)
            await self._woken.wait()
            handle.cancel()
            self._woken.clear()
            if not self._is_down:
                return
        await asyncio.sleep(0)  # deliveries continue, however much work waits

    def _next_s(self) -> float:
        """When the next round is due."""
        if self._is_stopping:
            return _AT_ONCE
        if self._is_down:
            return self._retry_s
        has_place = bool(self._ready) and len(self._deliveries) < self.sink.most_calls
        if self._has_more or has_place or any(task.done() for task in self._deliveries):
            return _AT_ONCE
        return min(
            self.assignment.next_rebalance_s, self.notices.catch_up_s, self.notices.next_read_s,
            self._runs.next_due_s, self._dead_letters.next_due_s, self._progress.next_s,
        )

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work; if Redis can't be reached, a later round repeats it under renewed claims."""
        try:
            await work()
        except LogUnavailableError as error:
            if not self._is_down:
                _log.warning("log unavailable; retrying", extra={"sink": self.sink.name, "error": error})
            self._is_down = True
            self._retry_s = self.assignment.next_rebalance_s = self._clock() + RETRY_S
            self.assignment.expire()
        else:
            self._is_down = False

    async def _start_sink(self) -> None:
        while not self._is_stopping:
            try:
                await self.sink.start()
            except Exception:  # noqa: BLE001 - sinks raise nothing here; one with a defect holds up no other
                _log.exception("sink not started; retrying", extra={"sink": self.sink.name})
                self._is_down, self._retry_s = True, self._clock() + START_RETRY_S
                await self._wait_for_work()
                self._is_down = False
            else:
                return

    async def _finish(self) -> None:
        """Wait for the deliveries under way, write their progress, and leave the rest to others."""
        if self._deliveries:
            await asyncio.wait(set(self._deliveries), timeout=FINISH_S)
        self._judge_results()
        for work in (self._progress.write, self.notices.ack, self.assignment.release):
            await self._attempt(work)
