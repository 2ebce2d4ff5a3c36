"""One projection at work: looks where a bell rang, pulls, folds, applies, acks."""

from __future__ import annotations

import asyncio
import logging

from eventlog.keys import PartitionKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.projection_log import NOTICES_PER_READ, News, ProjectionLog
from eventlog.work import heartbeats
from projections.applier import Applier
from projections.metrics import ProjectionMetrics
from projections.projection import Projection

SWEEP_S = 1.0
"""Between two looks at all partitions: what a lost bell costs at most; 64 empty looks cost Redis a millisecond."""

ABANDONED_MS = 5000
"""A notice left for longer is taken over; a living consumer acks within a round, some milliseconds."""

BEAT_S = 2.0
"""Between two heartbeats: readiness allows 15 s, so that several may fail."""

SLICES = 8
"""Parts of a sweep: all at once would hold up the news of every partition, a fiftieth of a second in each."""

_log = logging.getLogger(__name__)


class Turns:
    """Which partitions to sweep when: each once in a period, in slices, as many as there was time for."""

    def __init__(self, partitions: int, period_s: float) -> None:
        """At first all are due."""
        self._partitions = partitions
        self._period_s = period_s
        self._slice = 0
        self._swept_at = float("-inf")

    def next_at(self, *, whole: bool) -> float:
        """When to sweep again; `whole`: not before all are due."""
        return self._swept_at + (self._period_s if whole else self._period_s / SLICES)

    def take(self, now: float) -> list[int]:
        """The partitions that are due."""
        due = min(SLICES, max(1, int((now - self._swept_at) * SLICES / self._period_s))) if self._slice else SLICES
        slices = {(self._slice + number) % SLICES for number in range(due)}
        self._slice = self._slice + due
        self._swept_at = now
        return [number for number in range(self._partitions) if number % SLICES in slices]


class Projector:
    """The loop of one projection in one process; any number may run, also of the same projection."""

    def __init__(self, projection: Projection, log: ProjectionLog, metrics: ProjectionMetrics | None = None) -> None:
        """Project into the Redis that `log` reads."""
        self.projection = projection
        self.log = log
        self.applier = Applier(projection, log, metrics)
        self._partitions = log.server.keys.partitions
        self._rung = set(range(len(self._partitions)))
        self._woken = asyncio.Event()
        # At first, what an earlier process of this name left unacked is wanted again.
        self._doubtful = set(self._rung)
        self._is_down = False
        # Acked once a second, not each round: a notice that comes again is harmless, a round trip each isn't free.
        self._unacked: dict[PartitionKeys, list[bytes]] = {}

    def ring(self, partition: int | None = None) -> None:
        """Look at a partition, or at all, as soon as possible."""
        if partition is None:
            self._rung.update(range(len(self._partitions)))
        else:
            self._rung.add(partition)
        self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Project until `stopping` is set; finishes the round it is in."""
        clock = asyncio.get_running_loop().time
        turns = Turns(len(self._partitions), SWEEP_S)
        beat_at = 0.0
        while not stopping.is_set():
            await self._wait(turns.next_at(whole=self._is_down) - clock())
            sweeping = clock() >= turns.next_at(whole=self._is_down)
            numbers = turns.take(clock()) if sweeping else sorted(self._rung - self._doubtful)
            self._rung.difference_update(numbers)
            await self._guarded_round([self._partitions[number] for number in numbers], sweeping=sweeping)
            if not self._is_down and clock() >= beat_at:
                beat_at = clock() + BEAT_S
                await self._beat()
        await self._acked_at_the_end()

    async def _wait(self, timeout_s: float) -> None:
        if timeout_s > 0 and not self._rung - self._doubtful:
            handle = asyncio.get_running_loop().call_later(timeout_s, self._woken.set)
            await self._woken.wait()
            handle.cancel()
            if self.projection.gather_s and self._rung:
                await asyncio.sleep(self.projection.gather_s)
        self._woken.clear()

    async def _acked_at_the_end(self) -> None:
        try:
            await self._ack()
        except LogUnavailableError as error:
            _log.debug("notices not acked; they come again", extra={"error": error})

    async def _guarded_round(self, partitions: list[PartitionKeys], *, sweeping: bool) -> None:
        """A round whose failure leaves its partitions to the next sweep."""
        numbers = {partition.number for partition in partitions}
        try:
            reached = await self.look(partitions, sweeping=sweeping)
        except LogUnavailableError as error:
            if not self._is_down:
                _log.warning(
                    "projection waits for the log", extra={"projection": self.projection.name, "error": error}
                )
            self._is_down = True
            self._doubtful |= numbers
        except Exception:  # noqa: BLE001 - see below
            # The projection must go on whatever this is; it is tried again at each sweep.
            _log.exception("projection failed at a round", extra={"projection": self.projection.name})
            self._doubtful |= numbers
        else:
            self._is_down = False
            self._doubtful = (self._doubtful - reached) | (numbers - reached)

    async def look(self, partitions: list[PartitionKeys], *, sweeping: bool) -> set[int]:
        """Apply whatever these partitions have for the projection, and say which of them were served wholly.

        Raises:
            LogUnavailableError: if none can be reached; what was read stays unacked and comes again.
        """
        if not partitions:
            return set()
        if sweeping:
            await self._ack()
        news = await self.log.news(
            partitions, own=frozenset(self._doubtful), idle_ms=ABANDONED_MS if sweeping else None
        )
        reached = {one.partition.number for one in news}
        runs = {member: self.log.server.keys.of_run(member) for one in news for _, member in one.notices if member}
        reached -= await self.applier.catch_up(runs.values())
        served = [one for one in news if one.partition.number in reached]
        for one in served:
            self._unacked.setdefault(one.partition, []).extend(notice for notice, _ in one.notices)
            if len(one.notices) >= NOTICES_PER_READ:
                self.ring(one.partition.number)
        if sweeping:
            await self._walk([one for one in served if one.walk])
        return reached

    async def _ack(self) -> None:
        unacked, self._unacked = self._unacked, {}
        await self.log.ack(unacked)

    async def _walk(self, ordered: list[News]) -> None:
        """Look at every run of these partitions, since notices may have been missed."""
        if ordered:
            _log.info("projection walks", extra={"projection": self.projection.name, "partitions": len(ordered)})
        for news in ordered:
            async for runs in self.log.walk(news.partition):
                if await self.applier.catch_up(runs):
                    raise LogUnavailableError("a run could not be reached")
            await self.log.finish_walk(news.partition, news.walk)

    async def _beat(self) -> None:
        payload = {"applied": self.applier.applied, "dead_lettered": self.applier.dead_lettered}
        try:
            await heartbeats.write(self.log.server, f"projection.{self.projection.name}", self.log.consumer, payload)
        except LogUnavailableError as error:
            _log.debug("heartbeat not written", extra={"error": error})
