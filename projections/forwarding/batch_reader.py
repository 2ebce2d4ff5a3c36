"""Makes batches: of facts pulled after the sink's positions, and of redriven dead letters' own facts."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence

from eventlog.events import SessionOpened
from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position
from eventlog.projection.dead_letters import DeadLetter
from eventlog.projection.projection_log import RUNS_PER_PULL, ProjectionLog, RunFacts
from projections.forwarding.event_batches import Batch, Kinds, make_batch, make_redriven_batch
from projections.forwarding.fact_reader import read_facts, read_opened
from projections.forwarding.run_scheduler import RunScheduler

MOST_CACHED = 4096
"""Some 4 MB: several times as many sessions as one deployment has open by default."""

UNREACHED_PAUSE_S = 1.0
"""Before a run whose node is away is asked for again: a restart or failover takes seconds."""

_log = logging.getLogger(__name__)


class BatchReader:
    """Reads the facts of runs and dead letters that are ready."""

    def __init__(
        self, log: ProjectionLog, kinds: Kinds, runs: RunScheduler[RunKeys], dead_letters: RunScheduler[DeadLetter],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        """Take from the schedulers, and postpone what could not be read."""
        self._log = log
        self._kinds = kinds
        self._runs = runs
        self._dead_letters = dead_letters
        self._clock = clock
        self.ready: deque[Batch] = deque()
        """Batches to be sent."""
        self.empty: list[Batch] = []
        """Batches without an event, whose positions move at once."""
        self._opened: OrderedDict[str, SessionOpened | None] = OrderedDict()
        """How the runs read last were opened, which all their events quote; None where that can't be read."""

    async def pull(self, partitions: Collection[PartitionKeys]) -> None:
        """Make batches of some runs and dead letters of these partitions that are ready.

        Runs without news are finished, those out of reach postponed.

        Raises:
            LogUnavailableError: if Redis can't be reached; of a cluster a node may be away.
        """
        if self._dead_letters.ready:
            await self._redrive(partitions)
        runs = self._runs.take(RUNS_PER_PULL, partitions)
        if not runs:
            return
        try:
            pulled = await self._log.pull(runs)
            found = [one for one in pulled if not one.is_empty]
            self._opened |= {one.keys.member: one.opened for one in found if one.after == START}
            if unknown := [one.keys for one in found if one.keys.member not in self._opened]:
                self._opened |= await read_opened(self._log.server, unknown)
        except LogUnavailableError:
            self._postpone(self._runs, [keys.member for keys in runs])
            if not self._log.server.is_cluster:
                raise
            return
        if len(pulled) < len(runs):
            reached = {one.keys.member for one in pulled}
            self._postpone(self._runs, [keys.member for keys in runs if keys.member not in reached])
        for one in pulled:
            name = one.keys.member
            if one.is_empty:
                self._skip(one)
                continue
            self._opened.move_to_end(name)
            batch = make_batch(one, self._opened[name], self._kinds, self._runs.retries.get(name))
            (self.ready if batch.pending else self.empty).append(batch)
        while len(self._opened) > MOST_CACHED:
            self._opened.popitem(last=False)

    def _skip(self, pulled: RunFacts) -> None:
        if pulled.unreadable:
            about = {"sink": self._log.projection, "run": pulled.keys.member, "reason": pulled.unreadable}
            _log.error("run unreadable; skipping it", extra=about)
        self._runs.finish(pulled.keys.member, again=False)

    async def _redrive(self, partitions: Collection[PartitionKeys]) -> None:
        dead_letters = self._dead_letters.take(RUNS_PER_PULL, partitions)
        wanted: list[tuple[RunKeys, Position | None]] = [(one.keys, one.position) for one in dead_letters]
        wanted += [(one.keys, None) for one in dead_letters]
        try:
            facts = await read_facts(self._log.server, wanted)
        except LogUnavailableError:
            self._postpone(self._dead_letters, [one.id for one in dead_letters])
            if not self._log.server.is_cluster:
                raise
            return
        for dead_letter, fact, first in zip(dead_letters, facts, facts[len(dead_letters) :], strict=False):
            opened = first if isinstance(first, SessionOpened) else None
            batch = make_redriven_batch(dead_letter, opened, fact, self._kinds)
            (self.ready if batch.pending else self.empty).append(batch)

    def _postpone(self, scheduler: RunScheduler[RunKeys] | RunScheduler[DeadLetter], names: Sequence[str]) -> None:
        """Try these again: their node is away, or all of Redis, which the next call finds out."""
        for name in names:
            scheduler.postpone(name, self._clock() + UNREACHED_PAUSE_S)
