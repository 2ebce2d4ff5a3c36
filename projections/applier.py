"""Brings runs up to date for one projection: pull, fold, apply, until nothing is left or the log can't be reached."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Histogram

from eventlog.keys import RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.projection.projection_log import Applied, Apply, ProjectionLog, RunFacts
from eventlog.telemetry.metering import Timer
from projections.projection import Plan, Projection, plan, skip_first

URGENT_RUNS_PER_ROUND = 256
"""Runs pulled together where a client waits: each round is three round trips, and with 200 facts a run some 15 MB at
worst."""

RUNS_PER_ROUND = 64
"""As many where no client does: the other projections of this process, and Redis's other clients, wait no longer than
that takes, some milliseconds."""

URGENT_GATHER_S = 0.01
"""A projection that gathers wake-ups for longer than this is not urgent."""

APPLY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""A pull, a fold and an apply take some milliseconds."""

_log = logging.getLogger(__name__)


class ApplyTimer:
    """The histogram of one process's rounds."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Measure in `registry`; without one, for no reader."""
        self._apply = Histogram(
            "stenolog_projection_apply_duration_seconds",
            "Rounds in which runs' facts were pulled, folded and applied.",
            ["projection"], buckets=APPLY_BUCKETS_S, registry=registry or CollectorRegistry(),
        )  # fmt: skip

    def observe(self, projection: str, seconds: float) -> None:
        """Count a round of `projection`."""
        self._apply.labels(projection).observe(seconds)


class Applier:
    """Applies facts to one projection's read model; facts that another process has applied meanwhile are skipped."""

    def __init__(self, projection: Projection, log: ProjectionLog, timer: ApplyTimer | None = None) -> None:
        """Apply by the positions that `log` guards."""
        self._projection = projection
        self._log = log
        self._observe = partial((timer or ApplyTimer()).observe, projection.name)
        self._most_runs = URGENT_RUNS_PER_ROUND if projection.linger_s <= URGENT_GATHER_S else RUNS_PER_ROUND
        self._refused: set[str] = set()  # runs whose read model refused some facts: applied singly, to find which
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
            some = [todo.pop(member) for member in list(todo)[: self._most_runs]]
            with Timer(self._observe):
                pulled = await self._log.pull(run for run in some if run.partition.number not in failed)
                reached = {one.keys.member for one in pulled}
                failed |= {run.partition.number for run in some if run.member not in reached}
                found = [one for one in pulled if not one.is_empty]
                if len(found) < len(pulled):
                    self._report_unreadable(pulled)
                if self._refused:
                    found = [one.first(1) if one.keys.member in self._refused and one.facts else one for one in found]
                commands = [self._projection.reads(one) for one in found]
                answers = iter(await self._log.server.execute_many([one for each in commands for one in each]))
                plans: list[tuple[RunFacts, Plan]] = []
                for one, requested in zip(found, commands, strict=True):
                    read = [next(answers) for _ in requested]
                    if any(isinstance(answer, LogUnavailableError) for answer in read):
                        failed.add(one.keys.partition.number)
                    else:
                        plans.append((one, plan(self._projection, one, read, self._log.dead_letter)))
                applies = [Apply(one.keys, one.after, made.new, made.ops) for one, made in plans]
                for (one, made), applied in zip(plans, await self._log.apply(applies), strict=True):
                    last, code = made, applied.code
                    if code != Code.OK or made.dead_lettered or self._refused:
                        last, code = await self._settle(one, made, applied)
                    if code == Code.UNKNOWN:
                        failed.add(one.keys.partition.number)
                    elif code == Code.STALE or (code == Code.OK and last.has_more):
                        todo[one.keys.member] = one.keys
                    self.applied += last.applied if code == Code.OK else 0
        return failed

    def _report_unreadable(self, pulled: Sequence[RunFacts]) -> None:
        for one in pulled:
            if one.unreadable:  # only an operator can repair it; its notice is acked, and the next one looks again
                fields = {"projection": self._projection.name, "run": one.keys.member, "reason": one.unreadable}
                _log.error("run unreadable; skipping it", extra=fields)

    async def _settle(self, pulled: RunFacts, made: Plan, applied: Applied) -> tuple[Plan, Code]:
        """Count dead letters; where the read model refused the facts, find the one that it refuses and skip it.

        Returns the plan that was applied in the end, and the code: UNKNOWN if the run has to wait for the next sweep.
        """
        run, code, fields = pulled.keys.member, applied.code, {"projection": self._projection.name}
        if code == Code.MISPLACED and len(pulled.facts) > 1:
            self._refused.add(run)
            return made, Code.STALE
        if code == Code.MISPLACED and not pulled.facts:
            _log.error("dead letters not written; retrying", extra={**fields, "reason": applied.reason})
            return made, Code.UNKNOWN
        if code == Code.MISPLACED:
            made = skip_first(pulled, applied.reason, self._log.dead_letter)
            [second] = await self._log.apply([Apply(pulled.keys, pulled.after, made.new, made.ops)])
            code = Code.UNKNOWN if second.code == Code.MISPLACED else second.code
        if code == Code.OK:
            self._refused.discard(run)
            self.dead_lettered += made.dead_lettered
            if made.dead_lettered:
                _log.error("facts dead-lettered", extra={**fields, "run": run, "facts": made.dead_lettered})
        return made, code
