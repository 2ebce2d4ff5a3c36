"""One projection at work: on a wake-up it reads notices, brings their runs up to date, and acks them."""

from __future__ import annotations

import asyncio
import logging

from eventlog.keys import PartitionKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.projection_log import ABANDONED_MS, NOTICES_PER_READ, Notices, ProjectionLog
from eventlog.work import heartbeats
from projections.applier import Applier, ApplyTimer
from projections.projection import Projection

SWEEP_S = 1.0
"""Between two looks at all partitions: the cost of a lost wake-up; 64 empty looks cost Redis a millisecond."""

HEARTBEAT_S = 2.0
"""Between two heartbeats: readiness allows 15 s, so that several may fail."""

SLICES = 8
"""Parts of a sweep: all at once would hold up the news of every partition, a fiftieth of a second in each."""

_log = logging.getLogger(__name__)


class SweepSchedule:
    """Which partitions to sweep when: each once in a period, in slices, as many at once as are due."""

    def __init__(self, partitions: int, period_s: float) -> None:
        """At first all are due."""
        self._partitions = partitions
        self._period_s = period_s
        self._slice = 0
        self._swept_at = float("-inf")

    def next_at(self, *, all_due: bool) -> float:
        """When to sweep again; `all_due`: not before all partitions are due."""
        return self._swept_at + (self._period_s if all_due else self._period_s / SLICES)

    def take(self, now: float) -> list[int]:
        """Return the partitions that are due at `now`, and count them as swept."""
        due = min(SLICES, max(1, int((now - self._swept_at) * SLICES / self._period_s))) if self._slice else SLICES
        slices = {(self._slice + number) % SLICES for number in range(due)}
        self._slice = self._slice + due
        self._swept_at = now
        return [number for number in range(self._partitions) if number % SLICES in slices]


class ProjectionLoop:
    """The loop of one projection in one process; any number may run, also of the same projection."""

    def __init__(self, projection: Projection, log: ProjectionLog, timer: ApplyTimer | None = None) -> None:
        """Project into the Redis that `log` reads."""
        self.projection = projection
        self.log = log
        self.applier = Applier(projection, log, timer)
        self._partitions = log.server.keys.partitions
        self._woken = set(range(len(self._partitions)))
        self._wakeup = asyncio.Event()
        # Partitions that a sweep alone looks at, asking for this consumer's unacked notices: a round with them failed.
        # At first all, since an earlier process of this name may have left some unacked.
        self._unserved = set(self._woken)
        self._is_down = False
        # Acked once a second, not each round: a notice that comes again is harmless, a round trip each isn't free.
        self._unacked: dict[PartitionKeys, list[bytes]] = {}

    def wake(self, partition: int | None = None) -> None:
        """Look at a partition, or at all, as soon as possible."""
        if partition is None:
            self._woken.update(range(len(self._partitions)))
        else:
            self._woken.add(partition)
        self._wakeup.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Project until `stopping` is set; finishes the round it is in.

        Raises:
            Exception: any defect outside a fold: only a restart brings it back to a known state.
        """
        loop = asyncio.get_running_loop()
        schedule = SweepSchedule(len(self._partitions), SWEEP_S)
        heartbeat_at = 0.0
        while not stopping.is_set():
            timeout_s = schedule.next_at(all_due=self._is_down) - loop.time()
            if timeout_s > 0 and not self._woken - self._unserved:
                timer = loop.call_later(timeout_s, self._wakeup.set)
                await self._wakeup.wait()
                timer.cancel()
                if self.projection.linger_s and self._woken:
                    await asyncio.sleep(self.projection.linger_s)
            self._wakeup.clear()
            is_sweep = loop.time() >= schedule.next_at(all_due=self._is_down)
            numbers = set(schedule.take(loop.time()) if is_sweep else self._woken - self._unserved)
            self._woken -= numbers
            served = set[int]()
            try:
                served = await self.look([self._partitions[number] for number in sorted(numbers)], sweeping=is_sweep)
                self._is_down = False
            except LogUnavailableError as error:
                if not self._is_down:
                    fields = {"projection": self.projection.name, "error": error}
                    _log.warning("log unavailable; projection waits for it", extra=fields)
                self._is_down = True
            self._unserved = (self._unserved - served) | (numbers - served)
            if not self._is_down and loop.time() >= heartbeat_at:
                heartbeat_at = loop.time() + HEARTBEAT_S
                await self._write_heartbeat()
        try:
            await self.log.ack(self._unacked)
        except LogUnavailableError as error:
            _log.debug("notices not acked; they come again", extra={"error": error})

    async def look(self, partitions: list[PartitionKeys], *, sweeping: bool) -> set[int]:
        """Apply all news that these partitions have for the projection; returns those that were served wholly.

        Raises:
            LogUnavailableError: if none can be reached; notices already read stay unacked and come again.
        """
        if not partitions:
            return set()
        if sweeping:
            unacked, self._unacked = self._unacked, {}
            await self.log.ack(unacked)
        news = await self.log.read_notices(
            partitions, own=frozenset(self._unserved), idle_ms=ABANDONED_MS if sweeping else None
        )
        runs = {member: self.log.server.keys.of_run(member) for one in news for _, member in one.notices if member}
        failed = await self.applier.catch_up(runs.values())
        served = [one for one in news if one.partition.number not in failed]
        for one in served:
            self._unacked.setdefault(one.partition, []).extend(notice for notice, _ in one.notices)
            if len(one.notices) >= NOTICES_PER_READ:
                self.wake(one.partition.number)
        ordered = [one for one in served if one.walk]
        if sweeping and ordered:
            await self._walk(ordered)
        return {one.partition.number for one in served}

    async def _walk(self, ordered: list[Notices]) -> None:
        """Look at every run of these partitions, since notices may have been missed."""
        fields = {"projection": self.projection.name, "partitions": len(ordered)}
        _log.info("notices may have been missed; walking over all runs", extra=fields)
        for one in ordered:
            async for runs in self.log.walk(one.partition):
                if await self.applier.catch_up(runs):
                    raise LogUnavailableError("a run could not be reached")
            await self.log.finish_walk(one.partition, one.walk)

    async def _write_heartbeat(self) -> None:
        payload = {"applied": self.applier.applied, "dead_lettered": self.applier.dead_lettered}
        try:
            await heartbeats.write(self.log.server, f"projection.{self.projection.name}", self.log.consumer, payload)
        except LogUnavailableError as error:
            _log.debug("heartbeat not written", extra={"error": error})
