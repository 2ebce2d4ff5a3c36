"""Schedules runs and dead letters of assigned partitions, by notices, walks over the index, and redriven streams."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from eventlog.keys import LIVE_RUN, PartitionKeys, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.dead_letters import DeadLetter, read_redriven
from eventlog.projection.projection_log import ABANDONED_MS, NOTICES_PER_READ, ProjectionLog
from projections.forwarding.run_scheduler import RunScheduler

LINGER_S = 0.25
"""Between a wake-up and the read, so that news gather: no receiver waits for less, and with a thousand live sessions
each read finds a hundred runs, where a read for each would cost a hundred times as many calls."""

SWEEP_S = 2.0
"""Between two reads of all partitions: the most that a lost wake-up costs."""

MOST_SCHEDULED = 50_000
"""Runs kept in memory, some 40 MB; past this notices stay where they are, and are walked for if they are trimmed."""

MOST_REDRIVEN = 64
"""Letters read at once of a partition: they are sent beside new events."""

WALK_BELOW = 512
"""A walk continues while fewer runs than that are ready: new notices aren't queued behind all retained runs."""

FULL_PAUSE_S = 1.0
"""Before the next read where no room is left for more runs, or a node is away."""

_log = logging.getLogger(__name__)


@dataclass
class _Walk:
    """A walk over all runs of a partition."""

    partition: PartitionKeys
    token: str = ""
    """Of the order to walk; empty for the walk over a partition that was just assigned."""
    pages: AsyncIterator[list[RunKeys]] | None = None


class NoticeReader:
    """Feeds the schedulers of runs and of dead letters, from the partitions that are assigned."""

    def __init__(
        self, log: ProjectionLog, runs: RunScheduler[RunKeys], dead_letters: RunScheduler[DeadLetter],
        clock: Callable[[], float], woken: asyncio.Event,
    ) -> None:  # fmt: skip
        """Read as `log`'s consumer; sets `woken` when it has to read earlier than it said."""
        self._log = log
        self._runs = runs
        self._dead_letters = dead_letters
        self._clock = clock
        self._assigned: dict[int, PartitionKeys] = {}
        self._is_woken = woken
        self._woken: set[int] = set()
        self.next_read_s = float("inf")
        """When to read notices."""
        self._next_sweep_s = float("-inf")
        self._is_sweep = False
        self._next_walk_s = float("-inf")
        self._unconfirmed: set[int] = set()
        self._unacked: dict[PartitionKeys, list[bytes]] = {}
        self._walks: deque[_Walk] = deque()
        self._redriven: set[int] = set()

    @property
    def catch_up_s(self) -> float:
        """When to catch up; minus infinity for at once."""
        if self._redriven or self._may_walk:
            return float("-inf")
        return self._next_sweep_s if self._assigned else float("inf")

    @property
    def is_walking(self) -> bool:
        """Whether some runs of the index are not scheduled yet."""
        return bool(self._walks)

    @property
    def _may_walk(self) -> bool:
        has_room = self._runs.ready < WALK_BELOW and len(self._runs) < MOST_SCHEDULED
        return bool(self._walks) and has_room and self._clock() >= self._next_walk_s

    def assign(self, partitions: Iterable[PartitionKeys]) -> None:
        """Read these from now on, and schedule every run that they have: what others acked is in no notice."""
        for partition in partitions:
            self._assigned[partition.number] = partition
            self._unconfirmed.add(partition.number)
            self._redriven.add(partition.number)
            self._walks.append(_Walk(partition))
            self._woken.add(partition.number)
            self.next_read_s = self._clock()

    def revoke(self, partitions: Iterable[PartitionKeys]) -> None:
        """Forget these, which are other forwarders' now."""
        for partition in partitions:
            self._assigned.pop(partition.number, None)
            self._woken.discard(partition.number)
            self._unacked.pop(partition, None)
            self._runs.drop(partition)
            self._dead_letters.drop(partition)
        self._walks = deque(walk for walk in self._walks if walk.partition.number in self._assigned)

    def wake(self, partition: int | None = None) -> None:
        """Read the notices of a partition, or of every one, after `LINGER_S`."""
        before = len(self._woken)
        self._woken |= self._assigned.keys() if partition is None else self._assigned.keys() & {partition}
        if self._woken and not before:
            self.next_read_s = self._clock() + LINGER_S
            self._is_woken.set()

    def wake_to_redrive(self, partition: int) -> None:
        """Read a partition's redriven dead letters at once."""
        if partition in self._assigned:
            self._redriven.add(partition)
            self._is_woken.set()

    async def read(self) -> None:
        """Schedule the runs of woken partitions' notices; after a sweep these are all partitions.

        Raises:
            LogUnavailableError: if Redis can't be reached; the next sweep follows at once.
        """
        if len(self._runs) >= MOST_SCHEDULED:
            self.next_read_s = self._clock() + FULL_PAUSE_S
            return
        partitions = [self._assigned[number] for number in sorted(self._woken)]
        self._woken.clear()
        self.next_read_s = float("inf")
        own = frozenset(one.number for one in partitions if one.number in self._unconfirmed)
        self._unconfirmed |= {one.number for one in partitions}  # until the answer shows that none got lost on the way
        next_sweep_s, self._next_sweep_s = self._next_sweep_s, float("-inf")  # should this read fail
        idle_ms = ABANDONED_MS if self._is_sweep else None
        news = await self._log.read_notices(partitions, own=own, idle_ms=idle_ms) if partitions else []
        self._next_sweep_s, self._is_sweep = next_sweep_s, False
        for one in news:
            self._unconfirmed.discard(one.partition.number)
            for notice, member in one.notices:
                keys = self._log.server.keys.of_run(member)
                if member and keys.run == LIVE_RUN:  # sinks get events of live runs alone; a replay makes none
                    self._runs.add(keys.member, keys)
                self._unacked.setdefault(one.partition, []).append(notice)
            if len(one.notices) >= NOTICES_PER_READ:
                self._woken.add(one.partition.number)
                self.next_read_s = self._clock()
            if one.walk and (one.partition, one.walk) not in [(walk.partition, walk.token) for walk in self._walks]:
                self._walks.append(_Walk(one.partition, one.walk))

    async def catch_up(self) -> None:
        """Begin a sweep, read redriven dead letters and the next page of a walk, as far as they are due."""
        now_s = self._clock()
        if now_s >= self._next_sweep_s:
            await self._ack_if_reached()
            self._redriven.update(self._assigned)
            self._woken.update(self._assigned)
            self._is_sweep = True
            self.next_read_s = now_s
            self._next_sweep_s = now_s + SWEEP_S
        if self._redriven:
            await self._read_redriven()
        if self._may_walk:
            await self._walk_on()

    async def ack(self) -> None:
        """Ack the notices of all scheduled runs; they come again where that fails.

        Raises:
            LogUnavailableError: if it does.
        """
        unacked, self._unacked = self._unacked, {}
        await self._log.ack(unacked)

    async def _ack_if_reached(self) -> None:
        unacked = dict(self._unacked)
        try:
            await self.ack()
        except LogUnavailableError as error:
            # Perhaps of one node alone; nothing but these notices is held up by it.
            _log.debug("notices not acked; they come again", extra={"sink": self._log.projection, "error": error})
            self._unconfirmed.update(partition.number for partition in unacked if partition.number in self._assigned)

    async def _read_redriven(self) -> None:
        numbers, self._redriven = self._redriven, set()
        partitions = [self._assigned[number] for number in sorted(numbers) if number in self._assigned]
        try:
            found = await read_redriven(self._log.server, self._log.projection, partitions, MOST_REDRIVEN)
        except LogUnavailableError as error:  # each sweep reads them
            _log.debug("redriven dead letters not read; retrying", extra={"sink": self._log.projection, "error": error})
            return
        for dead_letter in found:
            if dead_letter.id not in self._dead_letters:
                self._dead_letters.add(dead_letter.id, dead_letter)

    async def _walk_on(self) -> None:
        walk = self._walks[0]
        try:
            walk.pages = walk.pages or self._log.walk(walk.partition)
            runs = await anext(walk.pages, None)
            if runs is None and walk.token:
                await self._log.finish_walk(walk.partition, walk.token)
        except LogUnavailableError as error:
            # The others first: its node may be away, and theirs not.
            _log.debug("walk interrupted; restarting it", extra={"sink": self._log.projection, "error": error})
            walk.pages = None
            self._walks.rotate(-1)
            self._next_walk_s = self._clock() + FULL_PAUSE_S
            return
        if runs is None:
            self._walks.popleft()
            return
        if walk.partition.number in self._assigned:
            for keys in runs:
                if keys.run == LIVE_RUN:
                    self._runs.add(keys.member, keys)
