"""Takes claims while the worker has room, and renews those it holds; knows when it must not take over from others."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence

from eventlog.keys import PartitionKeys
from eventlog.log import Claim, Code, LogUnavailableError
from eventlog.telemetry.tracing import trace_id
from eventlog.work.claims import Claims, LoadedRun
from processor.active_runs import ActiveRun, ActiveRuns
from processor.metrics import WorkerMetrics
from processor.misfits import Misfits
from processor.settings import WorkerSettings
from processor.timeline import Timeline

log = logging.getLogger(__name__)

SWEEP_S = 1.0
"""All partitions are looked at this often, even without a wake-up: the most that a lost publish costs."""

EXPIRY_MARGIN_S = 0.02
"""A claim is looked for this long after it has expired: clocks are read a round trip apart."""

TTL_SHARE = 8
"""Keys' TTLs are renewed after an eighth of their life, so several renewals may fail."""

LONGEST_TTL_RENEWAL_S = 300.0
"""Even with a very long TTL: a key whose TTL an operator removed gets it back soon."""


class ClaimKeeper:
    """One worker's claims: take, take over, renew, hand over."""

    def __init__(
        self,
        claims: Claims,
        runs: ActiveRuns,
        settings: WorkerSettings,
        *,
        on_suspect: Callable[[ActiveRun], None],
        on_poison: Callable[[Claim, str], None],
        misfits: Misfits | None = None,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """`on_suspect` receives a run that needs a trial, `on_poison` a claim that this build cannot even begin.

        Runs that the recogniser has no language or model for go to `misfits`.
        """
        self._misfits = misfits
        self._claims = claims
        self._runs = runs
        self._settings = settings
        self._on_suspect = on_suspect
        self._on_poison = on_poison
        self._metrics = metrics or WorkerMetrics()
        self._woken: set[PartitionKeys] = set()
        self._wake = asyncio.Event()
        self._takeover_at = 0.0
        self._lease_s = settings.lease_ms / 1000
        self._clock_offset_ms: int | None = None
        self._grace_until = 0.0
        self._taking: asyncio.Future[None] | None = None
        self._offering: set[asyncio.Future[None]] = set()
        self.taken_at = time.monotonic()
        """When claims were last looked for with success, monotonic time in seconds."""
        self.begin_grace_period()

    def wake(self, partition: PartitionKeys | None = None) -> None:
        """Look for claims in a partition, or in all of them, at once."""
        self._woken.update((partition,) if partition else self._claims.server.keys.partitions)
        self._wake.set()

    def begin_grace_period(self) -> None:
        """Take over nothing for a lease: after a stall of Redis or of this process, other holders may be alive."""
        self._grace_until = time.monotonic() + self._lease_s

    def report_error(self) -> None:
        """Begin a grace period after a failed call; of a cluster only where a node is known to be away, if one is."""
        if not self._claims.start_grace_period_if_away():
            self.begin_grace_period()

    async def run_taking(self) -> None:
        """Take new claims at wake-ups and once a second, and take over abandoned ones, until cancelled."""
        while True:
            try:
                # Not wait_for: on Python 3.11 it forgets a cancellation that comes together with the wake-up.
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                self._woken.update(self._claims.server.keys.partitions)
            woken, self._woken = self._woken, set()
            self._wake.clear()
            try:
                # Shielded: broken off, it could leave claims that no worker knows of until they expire.
                self._taking = asyncio.ensure_future(self.take(woken))
                await asyncio.shield(self._taking)
            except LogUnavailableError as error:
                log.warning("claims not taken; retrying", extra={"error": error})
                self.report_error()
                self.wake()
                await asyncio.sleep(SWEEP_S)

    def _pause_s(self) -> float:
        """Until the next look is of use: a claim may have expired then, unless the worker has no room for it anyway."""
        if not self._runs.room:
            return SWEEP_S
        due_s = max(self._takeover_at, self._grace_until) - time.monotonic()
        return min(SWEEP_S, max(EXPIRY_MARGIN_S, due_s))

    async def finish_taking(self) -> None:
        """Return when no take is under way any more; to be called after `run_taking` was cancelled."""
        under_way = [*self._offering] if self._taking is None else [self._taking, *self._offering]
        await asyncio.gather(*under_way, return_exceptions=True)

    async def take(self, woken: Iterable[PartitionKeys]) -> None:
        """Take new claims of the partitions named, and abandoned ones of any, as far as the worker has room."""
        started = time.monotonic()
        room = self._runs.room
        if room:
            partitions = list(woken)
            # Not always from the same end: with little room the last partitions would starve.
            random.shuffle(partitions)
            await self._begin(await self._claims.take_new(partitions, room))
        self._check_duration(started)
        if self._runs.room and time.monotonic() >= max(self._grace_until, self._takeover_at):
            taken = await self._claims.take_over(self._runs.room)
            # Not a second late, where it is known when the next claim expires; never in a tight loop.
            self._takeover_at = time.monotonic() + min(SWEEP_S, self._claims.next_takeover_ms / 1000 + EXPIRY_MARGIN_S)
            self._metrics.takeovers.inc(len(taken))
            await self._begin([claim for claim in taken if claim.keys.member not in self._runs])
            self._check_duration(started)
        self.taken_at = time.monotonic()

    async def run_renewing(self) -> None:
        """Renew every claim each third of a lease, until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                await self.renew()
            except LogUnavailableError as error:
                log.warning("claims not renewed; retrying", extra={"error": error})
                self.report_error()

    async def renew(self) -> None:
        """Renew every claim once; drop the runs whose claims are lost."""
        started = time.monotonic()
        runs = {run.claim: run for run in self._runs}
        lost = await self._claims.renew(list(runs))
        await self._check_clocks()
        self._check_duration(started)
        for claim in lost:
            run = runs[claim]
            if run.is_held and not run.committing:  # a commit under way reports it itself; it may be the run's end
                log.warning("claim lost; run dropped", extra={"run": claim.keys.member})
                self._metrics.claims_lost.inc()
                self._runs.remove(run)
        await self._renew_ttls(time.monotonic())

    async def hand_over_all(self) -> None:
        """Offer every run to the other workers, which decide its uncommitted decisions again."""
        claims = self._runs.claims
        for run in self._runs:
            self._runs.remove(run)
        await self._claims.hand_over(claims)
        await self._claims.delete_consumer()

    def offer_again(self, run: ActiveRun) -> None:
        """Hand a run over, to be begun again from its stored checkpoint: at once, not after a lease."""
        task = asyncio.ensure_future(self._hand_over(run.claim))
        self._offering.add(task)
        task.add_done_callback(self._offering.discard)

    async def _hand_over(self, claim: Claim) -> None:
        try:
            await self._claims.hand_over([claim])
        except LogUnavailableError as error:
            log.info("run not handed over; its claim expires", extra={"run": claim.keys.member, "error": error})

    async def _begin(self, claims: Sequence[Claim]) -> None:
        for claim, loaded in zip(claims, await self._claims.load(claims), strict=True):
            if loaded.code == Code.UNKNOWN:
                self.report_error()  # the claim comes back after a lease
            if loaded.code != Code.OK:
                continue  # lost again, or nothing is left to do
            run = self._active_run(claim, loaded)
            if run is None:
                continue
            if loaded.checkpoint.suspicion > self._settings.suspicion_limit:
                self._metrics.suspicions.inc()
                self._on_suspect(run)
            elif self._misfits and (refusal := self._misfits.find_refusal(run.start, run.checkpoint)):
                self._misfits.turn_away(run, refusal)
            else:
                self._runs.add(run)
                log.info("run taken", extra={"run": claim.keys.member, "trace_id": trace_id(run.start.traceparent)})

    def _active_run(self, claim: Claim, loaded: LoadedRun) -> ActiveRun | None:
        if loaded.start is None:
            self._on_poison(claim, "this build does not know its start event")
            return None
        try:
            timeline = Timeline(loaded.start, loaded.checkpoint)
        except ValueError as error:  # msgspec's ValidationError is one
            self._on_poison(claim, f"settings not of this build: {error}")
            return None
        return ActiveRun(
            claim, loaded.start, loaded.checkpoint, loaded.last_fact, timeline, loaded.total_samples, loaded.source
        )

    def _check_duration(self, started: float) -> None:
        """Begin a grace period after more than a third of the lease: the others' renewals may have waited as long."""
        if time.monotonic() - started > self._lease_s / 3:
            self.begin_grace_period()

    async def _check_clocks(self) -> None:
        """Begin a grace period after a step between Redis's clock and this one, which makes idle times wrong."""
        offset_ms = await self._claims.server.time_ms() - time.monotonic_ns() // 1_000_000
        before, self._clock_offset_ms = self._clock_offset_ms, offset_ms
        if before is not None and abs(offset_ms - before) > self._settings.lease_ms / 3:
            log.warning("clock step; no takeovers for a lease", extra={"step_ms": offset_ms - before})
            self.begin_grace_period()

    async def _renew_ttls(self, now: float) -> None:
        every_s = min(LONGEST_TTL_RENEWAL_S, self._settings.session_ttl_s / TTL_SHARE)
        due = [run for run in self._runs if now - run.ttl_renewed_at > every_s]
        if not due:
            return
        server, ttl_s = self._claims.server, self._settings.session_ttl_s
        commands: list[tuple[str | int, ...]] = []
        for run in due:
            run.ttl_renewed_at = now
        now_ms = await server.time_ms()
        for run in due:
            keys = run.claim.keys
            commands += [("EXPIRE", key, ttl_s) for key in keys.expiring()]
            commands.append(("ZADD", keys.partition.index, "XX", now_ms, keys.member))
        await server.execute_many(commands)
