"""Runs that kept killing workers: tried once in a process of their own, then quarantined; other runs continue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from eventlog.log import Claim, Code, LogUnavailableError
from eventlog.service import periodically
from eventlog.work.claims import Claims
from processor.active_runs import ActiveRun
from processor.metrics import WorkerMetrics

log = logging.getLogger(__name__)

QuarantineTrial = Callable[[Claim], Awaitable[bool]]
"""Processes a run in another process under the given claim until its next commit; returns whether that lived.

Raises `TrialNotMadeError` if the trial could not be made.
"""

RENEWALS_PER_LEASE = 3
"""As for every other claim: two renewals may fail before it is lost."""


class TrialNotMadeError(Exception):
    """A trial could not be made, which says nothing about the run."""


class Quarantine:
    """Keeps suspected runs apart from the worker's own."""

    def __init__(self, claims: Claims, trial: QuarantineTrial, metrics: WorkerMetrics | None = None) -> None:
        """Try suspects by `trial`."""
        self._claims = claims
        self._trial = trial
        self._metrics = metrics or WorkerMetrics()
        self._tasks: set[asyncio.Task[None]] = set()
        self._suspects: set[str] = set()

    def try_suspect(self, run: ActiveRun) -> None:
        """Try a suspected run in a process of its own; hand it over if that lives, and quarantine it if not."""
        if run.claim.keys.member not in self._suspects:
            self._suspects.add(run.claim.keys.member)
            self._spawn(self._try(run.claim))

    def quarantine(self, claim: Claim, reason: str) -> None:
        """Stop offering a run that cannot be processed."""
        self._spawn(self._quarantine(claim, reason))

    async def stop(self) -> None:
        """Break trials off; their claims expire, and the suspicion stays."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except (LogUnavailableError, TrialNotMadeError) as error:
                # Not handed over: its next holder, a lease from now, may fare better, and no worker tries in a loop.
                log.warning("quarantine interrupted; the claim expires", extra={"error": error})
            except Exception:
                log.exception("quarantine failed by a defect; the claim expires")

        task = asyncio.get_running_loop().create_task(guarded(), name="quarantine")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try(self, claim: Claim) -> None:
        log.warning("run killed workers; trying it in a process of its own", extra={"run": claim.keys.member})
        outages: list[LogUnavailableError] = []

        async def renew() -> None:
            try:
                await self._claims.renew([claim])
            except LogUnavailableError as error:
                outages.append(error)
                log.warning("suspect's claim not renewed; retrying", extra={"run": claim.keys.member})

        period_s = self._claims.lease_ms / 1000 / RENEWALS_PER_LEASE
        renewing = asyncio.create_task(periodically(period_s, renew, name="suspect's claim"))
        try:
            has_lived = await self._trial(claim)
        finally:
            renewing.cancel()
            self._suspects.discard(claim.keys.member)
        if has_lived:
            # Absolved: one that waits for its speaker may not commit for long, and would be tried again all the time.
            await self._claims.hand_over([claim], clears_suspicion=True)
        elif outages:
            raise TrialNotMadeError(f"the log was away during the trial, which may be why it failed: {outages[0]}")
        else:
            await self._quarantine(claim, "it kept killing workers, and a process of its own")

    async def _quarantine(self, claim: Claim, reason: str) -> None:
        code = await self._claims.quarantine(claim, reason)
        if code != Code.OK:
            log.info("run not quarantined: claim lost", extra={"run": claim.keys.member, "code": code.name})
            return
        self._metrics.quarantined.inc()
        log.error("run quarantined", extra={"run": claim.keys.member, "reason": reason})
