"""Runs that kept killing workers: tried once alone in a process of their own, then set aside; neighbours go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from eventlog.log import Claim, Code, LogUnavailableError
from processor.metrics import WorkerMetrics

if TYPE_CHECKING:
    from eventlog.work.claims import Claims
    from processor.active_run import ActiveRun
    from processor.active_runs import ActiveRuns

log = logging.getLogger(__name__)

SoloTrial = Callable[[Claim], Awaitable[bool]]
"""Processes a run alone in another process under the given claim until its next commit; says whether that lived.

Raises `UntriedError` if the trial could not be made.
"""

RENEWALS_PER_LEASE = 3
"""As for every other claim: two renewals may fail before it is lost."""


class UntriedError(Exception):
    """A trial could not be made, which says nothing about the run."""


class Quarantine:
    """Keeps suspected runs apart from the worker's own."""

    def __init__(
        self, claims: Claims, holdings: ActiveRuns, try_alone: SoloTrial, metrics: WorkerMetrics | None = None
    ) -> None:
        """Try suspects by `try_alone`; `holdings` never sees them."""
        self._claims = claims
        self._holdings = holdings
        self._try_alone = try_alone
        self._metrics = metrics or WorkerMetrics()
        self._tasks: set[asyncio.Task[None]] = set()
        self._members: set[str] = set()

    def admit(self, run: ActiveRun) -> None:
        """Try a suspected run alone; it is handed over if that goes well, and set aside if not."""
        if run.claim.keys.member not in self._members:
            self._members.add(run.claim.keys.member)
            self._start(self._trial(run.claim))

    def quarantine(self, claim: Claim, reason: str) -> None:
        """Stop offering a run that can't be processed."""
        self._start(self._put(claim, reason))

    async def stop(self) -> None:
        """Break trials off; their claims run out by themselves, and the suspicion stays."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except (LogUnavailableError, UntriedError) as error:
                # Not handed over: whoever has it next, a lease from now, may fare better, and nobody tries in a loop.
                log.warning("quarantine interrupted; the claim runs out", extra={"error": error})
            except Exception:
                log.exception("quarantine failed by a defect; the claim runs out")

        task = asyncio.get_running_loop().create_task(guarded(), name="quarantine")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _trial(self, claim: Claim) -> None:
        log.warning("run killed workers repeatedly, trying it alone", extra={"run": claim.keys.member})
        troubles: list[LogUnavailableError] = []
        renewing = asyncio.create_task(self._renew(claim, troubles))
        try:
            lived = await self._try_alone(claim)
        finally:
            renewing.cancel()
            self._members.discard(claim.keys.member)
        if lived:
            # Absolved: one that waits for its speaker may not commit for long, and would be tried again all the time.
            await self._claims.hand_over([claim], clears_suspicion=True)
        elif troubles:
            raise UntriedError(f"the log was away during the trial, which may be why it failed: {troubles[0]}")
        else:
            await self._put(claim, "it kept killing workers, and a process of its own")

    async def _put(self, claim: Claim, reason: str) -> None:
        code = await self._claims.quarantine(claim, reason)
        if code != Code.OK:
            log.info("run not set aside: not ours any more", extra={"run": claim.keys.member, "code": code.name})
            return
        self._metrics.quarantined.inc()
        log.error("run set aside", extra={"run": claim.keys.member, "reason": reason})

    async def _renew(self, claim: Claim, troubles: list[LogUnavailableError]) -> None:
        while True:
            await asyncio.sleep(self._claims.lease_ms / 1000 / RENEWALS_PER_LEASE)
            try:
                await self._claims.renew([claim])
            except LogUnavailableError as error:
                troubles.append(error)
                log.warning("quarantined claim not renewed, trying again", extra={"run": claim.keys.member})
