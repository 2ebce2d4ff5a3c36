"""Commits decisions in order, many runs in one round trip."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eventlog.log import Code, Commit, Committed, EventLog, LogUnavailableError
from eventlog.telemetry.metering import Timer
from processor.active_runs import ActiveRun, ActiveRuns
from processor.metrics import WorkerMetrics

log = logging.getLogger(__name__)

RUNS_PER_ROUND = 64
"""Commits in one round trip: at 60 µs each the server is held up for no longer than a flush of audio takes."""

RETRY_S = 0.2
"""Pause after the log was unreachable: short against the lease, long against a busy loop."""


class Committer:
    """Takes runs with ready decisions and writes them; the only writer of facts in a worker."""

    def __init__(
        self, log_: EventLog, runs: ActiveRuns, *, audio_retention_s: int, on_log_error: Callable[[], None],
        on_answers: Callable[[ActiveRun], None], metrics: WorkerMetrics | None = None, keeps_unarchived: bool = False,
        on_stale: Callable[[ActiveRun], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Commit through `log_`; `on_log_error` is called when the log could not be reached.

        `on_answers` receives a run with answers to requests, once every decision before them is committed. With
        `keeps_unarchived` audio is freed only once an archive has it too. `on_stale` receives a run that is still
        held, but whose commits a failover has rolled back.
        """
        self._log = log_
        self._runs = runs
        self._retention_s = audio_retention_s
        self._keeps_unarchived = keeps_unarchived
        self._on_log_error = on_log_error
        self._on_answers = on_answers
        self._on_stale = on_stale
        self._metrics = metrics or WorkerMetrics()
        self._unanswered: list[tuple[ActiveRun, Commit]] = []

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self._runs.wake_committer.wait()
            await self.commit_ready()

    async def commit_ready(self) -> None:
        """Commit the decisions that are ready now, of a bounded number of runs."""
        ready = self._runs.ready
        commits, self._unanswered = [one for one in self._unanswered if one[0].is_held], []
        while ready and len(commits) < RUNS_PER_ROUND:
            run = ready.pop(next(iter(ready)))
            retention_samples = self._retention_s * run.start.sample_rate_hz
            if commit := run.next_commit(
                retention_samples=retention_samples, keeps_unarchived=self._keeps_unarchived
            ):
                commits.append((run, commit))
        if not ready:
            self._runs.wake_committer.clear()
        if commits:
            try:
                with Timer(self._metrics.commit_s.observe):
                    answers = await self._log.commit([commit for _, commit in commits])
            except LogUnavailableError as error:
                log.warning("commits not answered; retrying", extra={"error": error, "commits": len(commits)})
                answers = [Committed(Code.UNKNOWN)] * len(commits)
            for (run, commit), answer in zip(commits, answers, strict=True):
                self._on_answer(run, commit, answer)
        if self._unanswered:
            self._on_log_error()
            if len(self._unanswered) == len(commits):
                await asyncio.sleep(RETRY_S)  # no node answers, so an immediate retry would not help other runs
            self._runs.wake_committer.set()

    def _on_answer(self, run: ActiveRun, commit: Commit, answer: Committed) -> None:
        self._metrics.count_commit(answer.code)
        if answer.code == Code.UNKNOWN:
            self._unanswered.append((run, commit))  # the same one again: it may be written already
        elif answer.code == Code.OK:
            self._metrics.observe_finals(run.apply_commit(commit))
            if run.answers:
                self._on_answers(run)
            if commit.ends:
                self._runs.remove(run)
            else:
                self._runs.mark_ready(run)
        else:
            log.warning(
                "commit refused; run dropped",
                extra={"run": run.claim.keys.member, "code": answer.code.name, "holder": answer.holder},
            )
            self._runs.remove(run)
            if answer.code == Code.STALE:
                self._on_stale(run)
