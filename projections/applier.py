"""Brings runs up to date for one projection: pull, fold, apply, until nothing is left or the log can't be reached."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from eventlog.keys import RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.projection.projection_log import FACTS_PER_PULL, Applied, Apply, ProjectionLog, Pulled
from eventlog.telemetry.metering import Timer
from projections.fold_plan import Decoded, Plan, decoded, first_only, plan, refused
from projections.metrics import ProjectionMetrics
from projections.projection import Projection

URGENT_RUNS_PER_ROUND = 256
"""Runs pulled together where somebody waits: each round is three round trips, and with 200 facts a run some 15 MB at
worst."""

RUNS_PER_ROUND = 64
"""As many where nobody does: the other projections of this process, and Redis's other clients, wait no longer than
that takes, some milliseconds."""

URGENT_GATHER_S = 0.01
"""Whoever gathers news for longer than this has time."""

_log = logging.getLogger(__name__)


class Applier:
    """Applies facts to one projection's read model; what another process applied meanwhile is left alone."""

    def __init__(self, projection: Projection, log: ProjectionLog, metrics: ProjectionMetrics | None = None) -> None:
        """Apply by the positions that `log` guards."""
        self._metrics = metrics or ProjectionMetrics()
        self._projection = projection
        self._log = log
        self._most_runs = URGENT_RUNS_PER_ROUND if projection.gather_s <= URGENT_GATHER_S else RUNS_PER_ROUND
        self._cautious: set[str] = set()  # runs whose read model refused something: fact by fact, to find which
        self.applied = 0
        self.dead_lettered = 0

    async def catch_up(self, runs: Iterable[RunKeys]) -> set[int]:
        """Apply all facts that these runs have; returns the partitions where some could not be.

        Raises:
            LogUnavailableError: if nothing can be reached.
        """
        todo = {run.member: run for run in runs}
        failed: set[int] = set()
        while todo:
            part = [todo.pop(member) for member in list(todo)[: self._most_runs]]
            again, unreached = await self._step([run for run in part if run.partition.number not in failed])
            todo.update((run.member, run) for run in again)
            failed |= unreached
        return failed

    async def _step(self, runs: list[RunKeys]) -> tuple[list[RunKeys], set[int]]:
        """One pull and one apply for each run: those that need another, and the partitions where that failed."""
        if not runs:
            return [], set()
        with Timer(lambda seconds: self._metrics.applied(self._projection.name, seconds)):
            return await self._pull_and_apply(runs)

    async def _pull_and_apply(self, runs: list[RunKeys]) -> tuple[list[RunKeys], set[int]]:
        pulled = await self._log.pull(runs)
        reached = {one.keys.member for one in pulled}
        failed = {run.partition.number for run in runs if run.member not in reached}
        for run in pulled:
            if run.broken:  # not ours to repair; its notice is acked, and the next one looks again
                _log.error(
                    "run can't be read",
                    extra={"projection": self._projection.name, "run": run.keys.member, "reason": run.broken},
                )
        found = [self._decoded(run) for run in pulled if run.facts]
        plans: list[tuple[Decoded, Plan]] = []
        for one, answers in zip(found, await self._read(found), strict=True):
            if any(isinstance(answer, LogUnavailableError) for answer in answers):
                failed.add(one.batch.keys.partition.number)
            else:
                plans.append((one, plan(self._projection, one, answers, self._log.dead_letter)))
        again, unreached = await self._apply(plans)
        return again, failed | unreached

    def _decoded(self, pulled: Pulled) -> Decoded:
        has_more = len(pulled.facts) >= FACTS_PER_PULL
        found = decoded(pulled.keys, pulled.position, pulled.facts, has_more=has_more)
        return first_only(found) if pulled.keys.member in self._cautious else found

    async def _read(self, found: Sequence[Decoded]) -> list[list[Any]]:
        """What each fold needs of its read model, all in one round trip."""
        commands = [list(self._projection.reads(one.batch)) for one in found]
        answers = iter(await self._log.server.execute_many([command for some in commands for command in some]))
        return [[next(answers) for _ in some] for some in commands]

    async def _apply(self, plans: Sequence[tuple[Decoded, Plan]]) -> tuple[list[RunKeys], set[int]]:
        again: list[RunKeys] = []
        failed: set[int] = set()
        applies = [Apply(one.batch.keys, one.batch.after, made.new, made.ops) for one, made in plans]
        for (one, made), answer in zip(plans, await self._log.apply(applies), strict=True):
            settled = self._settled(one, made, answer)
            if answer.code == Code.MISPLACED:
                settled = await self._on_refusal(one, answer.reason)
            if settled is None:
                failed.add(one.batch.keys.partition.number)
            elif not settled:
                again.append(one.batch.keys)
        return again, failed

    def _settled(self, pulled: Decoded, made: Plan, answer: Applied) -> bool | None:
        """Whether the run is up to date; None if that can't be known now."""
        if answer.code == Code.UNKNOWN:
            return None
        if answer.code == Code.GONE:  # expired or erased: nothing may bring it back
            return True
        if answer.code != Code.OK:
            return False
        self._cautious.discard(pulled.batch.keys.member)
        self.applied += made.applied
        self.dead_lettered += made.set_aside
        if made.set_aside:
            _log.error(
                "facts set aside",
                extra={
                    "projection": self._projection.name, "run": pulled.batch.keys.member, "facts": made.set_aside,
                },
            )  # fmt: skip
        return made.is_whole and not pulled.has_more

    async def _on_refusal(self, pulled: Decoded, reason: str) -> bool | None:
        """Look for the one fact that the read model refuses, and set it aside."""
        if len(pulled.batch.facts) > 1:
            self._cautious.add(pulled.batch.keys.member)
            return False
        if not pulled.batch.facts:
            _log.error(
                "dead letters can't be written", extra={"projection": self._projection.name, "reason": reason}
            )
            return None
        made = refused(pulled, reason, self._log.dead_letter)
        [answer] = await self._log.apply([Apply(pulled.batch.keys, pulled.batch.after, made.new, made.ops)])
        return None if answer.code == Code.MISPLACED else self._settled(pulled, made, answer)
