"""Makes lanes of what is to do: facts pulled after the sink's positions, and redriven letters' own facts."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventlog.events import Fact, SessionOpened
from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import START
from eventlog.projection.dead_letters import DeadLetter
from eventlog.projection.projection_log import RUNS_PER_PULL, ProjectionLog, RunFacts
from projections.forwarding.event_batches import Due, Kinds, Lane, lane_of
from projections.forwarding.fact_reader import read_facts
from projections.forwarding.opening import Openings
from projections.forwarding.run_scheduler import RunScheduler
from projections.integration_events import Kind

UNREACHED_PAUSE_S = 1.0
"""Before a run whose node is away is asked for again: a restart or failover takes seconds."""

UNREADABLE = "its fact can't be read, or makes no such event"
"""Reason of a redriven letter that comes to nothing."""

_log = logging.getLogger(__name__)

MaySend = Callable[[PartitionKeys], bool]


class Broken(NamedTuple):
    """A redriven letter of which no event can be made."""

    letter: DeadLetter


class BatchBuilder:
    """Reads the facts behind names."""

    def __init__(
        self, log: ProjectionLog, kinds: Kinds, runs: RunScheduler[RunKeys], letters: RunScheduler[DeadLetter],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        """Take names from the backlogs, and say in them what could not be read."""
        self._log = log
        self._kinds = kinds
        self._runs = runs
        self._letters = letters
        self._clock = clock
        self._openings = Openings(log.server)

    async def pull(self, may_send: MaySend) -> list[Lane]:
        """Lanes of some runs that are to do; those without news are finished, those out of reach are left for later.

        Raises:
            LogUnavailableError: if Redis can't be reached; of a cluster a node may be away.
        """
        taken = self._runs.take(RUNS_PER_PULL, may_send)
        if not taken:
            return []
        try:
            return await self._pulled([keys for _, keys in taken])
        except LogUnavailableError:
            self._leave(self._runs, [name for name, _ in taken])
            if not self._log.server.is_cluster:
                raise
            return []

    async def redrive(self, may_send: MaySend) -> tuple[list[Lane], list[Broken]]:
        """Lanes of letters that are sent once more, and those that come to nothing.

        Raises:
            LogUnavailableError: as `pull`.
        """
        taken = [letter for _, letter in self._letters.take(RUNS_PER_PULL, may_send)]
        if not taken:
            return [], []
        try:
            facts = await read_facts(self._log.server, [(one.keys, one.position) for one in taken])
            opened = await self._openings.of([], [one.keys for one in taken])
        except LogUnavailableError:
            self._leave(self._letters, [letter.id for letter in taken])
            if not self._log.server.is_cluster:
                raise
            return [], []
        found = [self._letter_lane(one, opened[one.keys.member], fact) for one, fact in zip(taken, facts, strict=True)]
        return [one for one in found if isinstance(one, Lane)], [one for one in found if isinstance(one, Broken)]

    def _leave(self, backlog: RunScheduler[RunKeys] | RunScheduler[DeadLetter], names: Sequence[str]) -> None:
        """Their node is away, or all of Redis, which whatever is asked next tells."""
        for name in names:
            backlog.postpone(name, self._clock() + UNREACHED_PAUSE_S, backlog.failures.get(name))

    async def _pulled(self, runs: Sequence[RunKeys]) -> list[Lane]:
        pulled = await self._log.pull(runs)
        reached = {one.keys.member for one in pulled}
        found = [one for one in pulled if not one.is_empty]
        opened = await self._openings.of(found)
        self._leave(self._runs, [keys.member for keys in runs if keys.member not in reached])
        for one in pulled:
            self._finish_empty(one)
        failures = self._runs.failures
        return [
            lane_of(one, opened[one.keys.member], self._kinds, failures.get(one.keys.member))
            for one in found
        ]

    def _finish_empty(self, pulled: RunFacts) -> None:
        if pulled.unreadable:
            _log.error(
                "run can't be read",
                extra={"sink": self._log.projection, "run": pulled.keys.member, "reason": pulled.unreadable},
            )
        if pulled.is_empty:
            self._runs.finish(pulled.keys.member, again=False)

    def _letter_lane(self, letter: DeadLetter, opened: SessionOpened | None, fact: Fact | None) -> Lane | Broken:
        if opened is None or fact is None:
            return Broken(letter)
        try:
            kinds = [Kind(letter.kind)] if letter.kind else self._kinds(opened, fact)
        except ValueError:
            return Broken(letter)
        due = deque(Due(START, letter.position, fact, kind) for kind in kinds)
        return Lane(letter.id, letter.keys, opened, due, letter=letter)
