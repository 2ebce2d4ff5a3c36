"""Commits decisions in order, many runs in one round trip."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from eventlog.log import Code, Commit, Committed, EventLog, LogUnavailableError
from eventlog.telemetry.metering import Timer
from processor.metrics import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from processor.active_run import ActiveRun
    from processor.active_runs import ActiveRuns

log = logging.getLogger(__name__)

RUNS_PER_ROUND = 64
"""Commits in one round trip: at 60 µs each the server is held up for no longer than a flush of audio takes."""

RETRY_S = 0.2
"""Pause after the log was unreachable: short against the lease, long against a busy loop."""


class Committer:
    """Takes runs with ready decisions and writes them; the only writer of facts in a worker."""

    def __init__(
        self, log_: EventLog, holdings: ActiveRuns, *, audio_retention_s: int, on_trouble: Callable[[], None],
        on_answers: Callable[[ActiveRun], None], metrics: WorkerMetrics | None = None, keeps_unarchived: bool = False,
        on_stale: Callable[[ActiveRun], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Commit through `log_`; `on_trouble` is called when the log couldn't be reached.

        `on_answers` gets a run with answers to questions that nothing undecided lies before any more. With
        `keeps_unarchived` audio is freed only once an archive has it too. `on_stale` gets a run that is still held,
        but whose commits a failover has taken back.
        """
        self._log = log_
        self._holdings = holdings
        self._retention_s = audio_retention_s
        self._keeps_unarchived = keeps_unarchived
        self._on_trouble = on_trouble
        self._on_answers = on_answers
        self._on_stale = on_stale
        self._metrics = metrics or WorkerMetrics()
        self._unanswered: list[tuple[ActiveRun, Commit]] = []

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self._holdings.wake_committer.wait()
            await self.round()

    async def round(self) -> None:
        """Commit what is ready now, a bounded part of it."""
        ready = self._holdings.ready
        commits, self._unanswered = [one for one in self._unanswered if one[0].held], []
        while ready and len(commits) < RUNS_PER_ROUND:
            run = ready.pop(next(iter(ready)))
            if commit := run.next_commit(self._retention_s * run.start.sample_rate_hz):
                commits.append((run, commit._replace(keeps_unarchived=self._keeps_unarchived)))
        if not ready:
            self._holdings.wake_committer.clear()
        if commits:
            answers = await self._commit([commit for _, commit in commits])
            for (run, commit), answer in zip(commits, answers, strict=True):
                self._judge(run, commit, answer)
        if self._unanswered:
            self._on_trouble()
            if len(self._unanswered) == len(commits):
                await asyncio.sleep(RETRY_S)  # nobody answers: others' turn won't come sooner by asking harder
            self._holdings.wake_committer.set()

    async def _commit(self, commits: list[Commit]) -> list[Committed]:
        """Each one's answer; UNKNOWN where there was none."""
        try:
            with Timer(self._metrics.commit_s.observe):
                return await self._log.commit(commits)
        except LogUnavailableError as error:
            log.warning("commits not answered, asking again", extra={"error": error, "commits": len(commits)})
            return [Committed(Code.UNKNOWN)] * len(commits)

    def _judge(self, run: ActiveRun, commit: Commit, answer: Committed) -> None:
        self._metrics.committed(answer.code)
        if answer.code == Code.UNKNOWN:
            self._unanswered.append((run, commit))  # the same one again: it may be written already
        elif answer.code == Code.OK:
            self._metrics.finals(run.committed(commit))
            if run.answers:
                self._on_answers(run)
            if commit.ends:
                self._holdings.drop(run)
            else:
                self._holdings.mark_ready(run)
        else:
            log.warning(
                "run let go: commit refused",
                extra={"run": run.claim.keys.member, "code": answer.code.name, "holder": answer.holder},
            )
            self._holdings.drop(run)
            if answer.code == Code.STALE:
                self._on_stale(run)
