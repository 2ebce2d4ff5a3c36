"""Makes batches: of facts pulled after the sink's positions, and of redriven dead letters' own facts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.dead_letters import DeadLetter
from eventlog.projection.projection_log import RUNS_PER_PULL, ProjectionLog
from projections.forwarding.event_batches import Batch, Kinds, make_batch, make_redriven_batch
from projections.forwarding.fact_reader import OpenedCache, read_facts
from projections.forwarding.run_scheduler import RunScheduler

UNREACHED_PAUSE_S = 1.0
"""Before a run whose node is away is asked for again: a restart or failover takes seconds."""

_log = logging.getLogger(__name__)

MaySend = Callable[[PartitionKeys], bool]


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
        self._opened = OpenedCache(log.server)

    async def pull(self, may_send: MaySend) -> list[Batch]:
        """Batches of some runs that are ready; those without news are finished, those out of reach postponed.

        Raises:
            LogUnavailableError: if Redis can't be reached; of a cluster a node may be away.
        """
        runs = self._runs.take(RUNS_PER_PULL, may_send)
        if not runs:
            return []
        try:
            pulled = await self._log.pull(runs)
            found = [one for one in pulled if not one.is_empty]
            opened = await self._opened.read(found)
        except LogUnavailableError:
            self._postpone(self._runs, [keys.member for keys in runs])
            if not self._log.server.is_cluster:
                raise
            return []
        if len(pulled) < len(runs):
            reached = {one.keys.member for one in pulled}
            self._postpone(self._runs, [keys.member for keys in runs if keys.member not in reached])
        for one in pulled:
            if one.unreadable:
                about = {"sink": self._log.projection, "run": one.keys.member, "reason": one.unreadable}
                _log.error("run unreadable; skipping it", extra=about)
            if one.is_empty:
                self._runs.finish(one.keys.member, again=False)
        retries = self._runs.retries
        return [
            make_batch(one, opened[one.keys.member], self._kinds, retries.get(one.keys.member))
            for one in found
        ]

    async def redrive(self, may_send: MaySend) -> list[Batch]:
        """Batches of dead letters that are sent once more.

        Raises:
            LogUnavailableError: as `pull`.
        """
        dead_letters = self._dead_letters.take(RUNS_PER_PULL, may_send)
        if not dead_letters:
            return []
        try:
            facts = await read_facts(self._log.server, [(one.keys, one.position) for one in dead_letters])
            opened = await self._opened.read([], [one.keys for one in dead_letters])
        except LogUnavailableError:
            self._postpone(self._dead_letters, [one.id for one in dead_letters])
            if not self._log.server.is_cluster:
                raise
            return []
        return [
            make_redriven_batch(one, opened[one.keys.member], fact, self._kinds)
            for one, fact in zip(dead_letters, facts, strict=True)
        ]

    def _postpone(self, scheduler: RunScheduler[RunKeys] | RunScheduler[DeadLetter], names: Sequence[str]) -> None:
        """Try these again: their node is away, or all of Redis, which the next call finds out."""
        for name in names:
            scheduler.postpone(name, self._clock() + UNREACHED_PAUSE_S)
