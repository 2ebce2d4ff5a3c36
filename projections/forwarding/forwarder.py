"""One sink at work in one process: claims partitions, pulls facts, sends events, moves positions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.projection.dead_letters import DeadLetter, Refusal, Settlement
from eventlog.projection.projection_log import ProjectionLog
from eventlog.projection.sink_state import PartitionClaims
from projections.forwarding.backoff import CAP_S, Failure, delay_s
from projections.forwarding.batch_builder import UNREACHED_PAUSE_S, UNREADABLE, BatchBuilder
from projections.forwarding.delivery import Answer, Parcel, call
from projections.forwarding.event_batches import Judge, Lane, Settled, settle
from projections.forwarding.notice_reader import NoticeReader
from projections.forwarding.partition_assignment import PartitionAssignment
from projections.forwarding.progress_writer import ProgressWriter, Written
from projections.forwarding.run_scheduler import RunScheduler
from projections.forwarding.sink import Sink
from projections.forwarding.sink_stats import SinkStats

RETRY_S = 0.5
"""After trouble with Redis: a restart takes about as long, and a try a millisecond."""

FINISH_S = 3.0
"""How long calls under way may take at the end; what they leave is sent again by another."""

CALLS_READY = 2
"""Calls' worth of events made ready while others are under way: enough that no place is ever empty."""

MOST_UNWRITTEN = 1024
"""Runs whose progress a part of Redis that is away can't be told: past this nothing more is pulled."""

START_RETRY_S = 5.0
"""A sink that can't even be started has a defect; others go on, and this one is tried again."""

_log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """How a forwarder works.

    Attributes:
        lease_ms: For how long a claim on a partition lasts without being renewed.
        give_up_s: How long an event is tried.
        session_ttl_s: Time to live of what is written, seconds.
        clock: Monotonic seconds.
        draw: A random number from 0 to 1.
    """

    lease_ms: int
    give_up_s: float
    session_ttl_s: int
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random


class Forwarder:
    """The loop of one sink in one process; any number may run, each with its own partitions."""

    def __init__(self, sink: Sink, log: ProjectionLog, terms: Terms) -> None:
        """Forward what `log` has to `sink`."""
        self.sink = sink
        self.tally = SinkStats(sink.name)
        self._log = log
        self._terms = terms
        self._clock = terms.clock
        self._runs: RunScheduler[RunKeys] = RunScheduler()
        self._letters: RunScheduler[DeadLetter] = RunScheduler()
        claims = PartitionClaims(log.server, sink.name, log.consumer, lease_ms=terms.lease_ms)
        self.holdings = PartitionAssignment(claims, terms.clock)
        self._intake = NoticeReader(log, self._runs, self._letters, terms.clock)
        self._gatherer = BatchBuilder(log, sink.kinds, self._runs, self._letters, terms.clock)
        self._ledger = ProgressWriter(log, session_ttl_s=terms.session_ttl_s)
        self._ready: deque[Lane] = deque()
        self._calls: dict[asyncio.Task[list[Answer]], list[Parcel]] = {}
        self._answers: list[Answer] = []
        self._woken = asyncio.Event()
        self._is_down = False
        self._retry_s = float("-inf")
        self._has_more = False

    def ring(self, partition: int | None = None) -> None:
        """A partition, or every one, may have news."""
        everywhere = range(len(self._log.server.keys.partitions))
        if self._intake.ring(everywhere if partition is None else (partition,)):
            self._woken.set()

    def ring_freed(self) -> None:
        """A partition has no forwarder any more."""
        self.holdings.next_look_s = self._clock()
        self._woken.set()

    def ring_redriven(self, partition: int) -> None:
        """A partition has letters to be sent once more."""
        self._intake.ring_redriven(partition)
        self._woken.set()

    @property
    def is_idle(self) -> bool:
        """Whether it knows of nothing to do."""
        return not (len(self._runs) or len(self._letters) or len(self._ledger) or self._intake.is_walking)

    async def run(self, stopping: asyncio.Event) -> None:
        """Forward until `stopping` is set; what is under way then is finished, for some seconds."""
        try:
            await self._start(stopping)
            while not stopping.is_set():
                await self._wait()
                if not stopping.is_set():
                    await self._guarded(self._round)
            await self._finish()
        finally:
            for task in self._calls:
                task.cancel()
            await self.sink.stop()

    async def _start(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await self.sink.start()
            except Exception:  # noqa: BLE001 - sinks raise nothing here
                _log.exception("sink can't be started, trying again", extra={"sink": self.sink.name})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), START_RETRY_S)
            else:
                return

    def wake(self) -> None:
        """Look whether to stop."""
        self._retry_s = float("-inf")
        self._woken.set()

    async def _wait(self) -> None:
        while (pause_s := self._next_s() - self._clock()) > 0:
            handle = asyncio.get_running_loop().call_later(pause_s, self._woken.set)
            await self._woken.wait()
            handle.cancel()
            self._woken.clear()
            if not self._is_down:
                return
        await asyncio.sleep(0)  # calls go on, however much there is to do

    def _next_s(self) -> float:
        if self._is_down:
            return self._retry_s
        if self._answers or self._has_more:
            return float("-inf")
        times = (
            self.holdings.next_look_s, self._intake.next_s, self._runs.next_due_s, self._letters.next_due_s,
            self._retry_s if len(self._ledger) else float("inf"),
        )  # fmt: skip
        return min(times)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work; whatever goes wrong with it is tried again."""
        try:
            await work()
        except LogUnavailableError as error:
            if not self._is_down:
                _log.warning("forwarder waits for the log", extra={"sink": self.sink.name, "error": error})
            self._pause()
        except Exception:  # noqa: BLE001 - the forwarder must go on whatever this is
            _log.exception("forwarder failed at a round", extra={"sink": self.sink.name})
            self._pause()
        else:
            self._is_down = False

    def _pause(self) -> None:
        self._is_down = True
        self._retry_s = self.holdings.next_look_s = self._clock() + RETRY_S
        self.holdings.unsettle()

    async def _round(self) -> None:
        await self._look()
        self._settle()
        self._begin()
        await self._write()
        await self._intake.take_in()
        now_s = self._clock()
        self._runs.wake(now_s)
        self._letters.wake(now_s)
        await self._gather()
        self._begin()

    async def _look(self) -> None:
        if self._clock() < self.holdings.next_look_s:
            return
        busy = {parcel.lane.keys.partition for parcels in self._calls.values() for parcel in parcels}
        busy |= {lane.keys.partition for lane in self._ledger.lanes}
        held = len(self.holdings)
        failing_s = max(
            self._runs.oldest_failing_s(self._clock()), self._letters.oldest_failing_s(self._clock())
        )
        waiting = self._runs.waiting + self._letters.waiting
        self.tally.stands(partitions=held, waiting=waiting, failing_s=failing_s)
        gained, lost = await self.holdings.look(self.tally.payload(), busy)
        self._intake.lose(lost)
        self._intake.gain(gained)
        if len(self.holdings) != held:
            _log.info("forwards partitions", extra={"sink": self.sink.name, "partitions": len(self.holdings)})

    def _may_send(self, partition: PartitionKeys) -> bool:
        return self.holdings.may_send(partition)

    def _begin(self) -> None:
        """Start as many calls as there are places and events for."""
        while self._ready and len(self._calls) < self.sink.most_calls:
            parcels = self._parcels()
            if not parcels:
                return
            task = asyncio.create_task(
                call(self._log.server, self.sink, parcels, lambda lane: self._may_send(lane.keys.partition)),
                name=f"forward {self.sink.name}",
            )
            self._calls[task] = parcels
            task.add_done_callback(self._on_answer)

    def _parcels(self) -> list[Parcel]:
        """The events of one call."""
        parcels: list[Parcel] = []
        room = self.sink.most_events
        while self._ready and room:
            lane = self._ready.popleft()
            if not self._may_send(lane.keys.partition):
                self._put_back(lane)
                continue
            due = list(lane.due)[:room]
            parcels.append(Parcel(lane, due))
            room -= len(due)
        return parcels

    def _on_answer(self, task: asyncio.Task[list[Answer]]) -> None:
        parcels = self._calls.pop(task, [])
        if task.cancelled() or (error := task.exception()) is not None:
            if not task.cancelled():
                _log.error("a call failed by a defect", exc_info=error, extra={"sink": self.sink.name})
            self._answers += [Answer(parcel, None) for parcel in parcels]
        else:
            self._answers += task.result()
        if self.holdings.closing:
            self.holdings.next_look_s = self._clock()
        self._woken.set()

    def _settle(self) -> None:
        answers, self._answers = self._answers, []
        judge = Judge(self._clock(), time.time_ns() // 1_000_000, self._terms.give_up_s)
        for parcel, verdicts in answers:
            backlog = self._backlog(parcel.lane)
            if verdicts is None:
                self._on_unmade(parcel.lane)
                continue
            settled = settle(parcel.lane, verdicts, backlog.failures.get(parcel.lane.name), judge)
            self.tally.add(parcel.lane, settled, verdicts)
            self._settled(parcel.lane, settled)

    def _on_unmade(self, lane: Lane) -> None:
        """A call that wasn't made: its claim was stale, or its facts could not be reached."""
        if not self._may_send(lane.keys.partition):
            self._put_back(lane)
            return
        backlog = self._backlog(lane)
        backlog.postpone(lane.name, self._clock() + UNREACHED_PAUSE_S, backlog.failures.get(lane.name))

    def _settled(self, lane: Lane, settled: Settled) -> None:
        if lane.letter is not None:
            if settled.failure is not None and not settled.refusals:
                self._postpone(lane, settled.failure)
            elif lane.due and not settled.refusals:
                self._ready.append(lane)
            else:
                self._ledger.add_letter(Settlement(lane.letter, next(iter(settled.refusals), None)))
        elif not self._ledger.add(lane, settled.refusals, settled.failure):
            self._go_on(lane, settled.failure)

    async def _write(self) -> None:
        """Write what calls led to; later calls are under way meanwhile."""
        if not len(self._ledger) or (self._clock() < self._retry_s):
            return
        for one in await self._ledger.write():
            self._on_written(one)
        for settlement in await self._ledger.write_letters():
            self._letters.finish(settlement.letter.id, again=False)
        if len(self._ledger):  # a node is away; the others' runs go on
            self._retry_s = self._clock() + RETRY_S

    def _on_written(self, written: Written) -> None:
        lane, code, failure = written
        if code == Code.OK:
            self._go_on(lane, failure)
        elif code == Code.MISPLACED:
            self._runs.postpone(lane.name, self._clock() + CAP_S, failure)
        else:  # STALE: another forwarder was here; GONE: expired or erased, and nothing brings it back
            self._runs.finish(lane.name, again=code == Code.STALE)

    def _go_on(self, lane: Lane, failure: Failure | None) -> None:
        if failure is not None:
            self._postpone(lane, failure)
            return
        self._runs.failures.pop(lane.name, None)
        if lane.due:
            self._ready.append(lane)
        else:
            self._runs.finish(lane.name, again=lane.has_more)

    def _postpone(self, lane: Lane, failure: Failure) -> None:
        until_s = self._clock() + delay_s(failure.attempts, self._terms.draw())
        self._backlog(lane).postpone(lane.name, until_s, failure)

    def _put_back(self, lane: Lane) -> None:
        self._backlog(lane).put_back(lane.name)

    def _backlog(self, lane: Lane) -> RunScheduler[RunKeys] | RunScheduler[DeadLetter]:
        return self._runs if lane.letter is None else self._letters

    async def _gather(self) -> None:
        """Make events ready, up to some calls' worth."""
        wanted = CALLS_READY * self.sink.most_calls * self.sink.most_events
        self._has_more = False
        if sum(len(lane.due) for lane in self._ready) >= wanted or len(self._ledger) >= MOST_UNWRITTEN:
            return
        before = self._runs.todo + self._letters.todo
        lanes, broken = await self._gatherer.redrive(self._may_send)
        now_ms = time.time_ns() // 1_000_000
        for letter, in broken:
            refusal = Refusal(letter.keys, letter.position, UNREADABLE, letter.kind, letter.event_id, 0, now_ms)
            self._ledger.add_letter(Settlement(letter, refusal))
        lanes += await self._gatherer.pull(self._may_send)
        for lane in lanes:
            if lane.due:
                self._ready.append(lane)
            else:
                self._settled(lane, Settled([], None, 0))
        # Also where nothing came of them: thousands of runs without news are walked over as fast as others.
        self._has_more = bool(lanes or broken) or self._runs.todo + self._letters.todo < before

    async def _finish(self) -> None:
        """Wait for the calls under way, write what they led to, and leave the rest to others."""
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=FINISH_S)
        self._settle()
        self._retry_s = float("-inf")
        for work in (self._write, self._intake.ack, self.holdings.leave):
            await self._guarded(work)


