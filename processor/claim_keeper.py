"""Takes claims while there is room, and keeps those it has; knows when it must not take over from others."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from eventlog.log import Claim, Code, LogUnavailableError
from eventlog.telemetry.tracing import trace_id
from processor.active_run import ActiveRun
from processor.metrics import WorkerMetrics
from processor.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from eventlog.keys import PartitionKeys
    from eventlog.work.claims import Claims, LoadedRun
    from processor.active_runs import ActiveRuns
    from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

SWEEP_S = 1.0
"""All partitions are looked at this often, whatever the bells said: what a lost publish costs at most."""

LOOK_MARGIN_S = 0.02
"""After a claim has run out it is looked for: clocks are read a round trip apart."""

TTL_SHARE = 8
"""Keys' TTLs are renewed after an eighth of their life, so several renewals may fail."""

LONGEST_REFRESH_S = 300.0
"""Even with a very long TTL: a key whose TTL was lost to an operator's hand gets it back soon."""


class ClaimKeeper:
    """One worker's claims: take, take over, renew, hand over."""

    def __init__(
        self,
        claims: Claims,
        holdings: ActiveRuns,
        settings: WorkerSettings,
        *,
        on_suspect: Callable[[ActiveRun], None],
        on_poison: Callable[[Claim, str], None],
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """`on_suspect` gets a run that must be tried alone, `on_poison` a claim that this build can't even begin."""
        self._claims = claims
        self._holdings = holdings
        self._settings = settings
        self._on_suspect = on_suspect
        self._on_poison = on_poison
        self._metrics = metrics or WorkerMetrics()
        self._rung: set[PartitionKeys] = set()
        self._bell = asyncio.Event()
        self._look_at = 0.0
        self._lease_s = settings.lease_ms / 1000
        self._clock_offset_ms: int | None = None
        self._calm_from = 0.0
        self._taking: asyncio.Future[None] | None = None
        self._offering: set[asyncio.Future[None]] = set()
        self.looked_at = time.monotonic()
        """When a look for claims last went through, monotonic time in seconds."""
        self.unsettle()

    def ring(self, partition: PartitionKeys | None = None) -> None:
        """Look at a partition, or at all of them, at once."""
        self._rung.update((partition,) if partition else self._claims.server.keys.partitions)
        self._bell.set()

    def unsettle(self) -> None:
        """Take over nothing for a lease: a stall of Redis or of ours must not make the living steal from the living."""
        self._calm_from = time.monotonic() + self._lease_s

    def troubled(self) -> None:
        """As `unsettle`, for a call that failed; of a cluster only where a node is known to be away, if one is."""
        if not self._claims.start_grace_period_if_away():
            self.unsettle()

    async def run_taking(self) -> None:
        """Take new claims as bells ring and once a second, and take over what its holder abandoned, until cancelled."""
        while True:
            try:
                # Not wait_for: on Python 3.11 it forgets a cancellation that comes together with the bell.
                async with asyncio.timeout(self._pause_s()):
                    await self._bell.wait()
            except TimeoutError:
                self._rung.update(self._claims.server.keys.partitions)
            rung, self._rung = self._rung, set()
            self._bell.clear()
            try:
                # Shielded: broken off, it could leave claims that nobody knows of until they run out.
                self._taking = asyncio.ensure_future(self.take(rung))
                await asyncio.shield(self._taking)
            except LogUnavailableError as error:
                log.warning("no claims taken, trying again", extra={"error": error})
                self.troubled()
                self.ring()
                await asyncio.sleep(SWEEP_S)

    def _pause_s(self) -> float:
        """Until the next look is of use: a claim may have run out then, unless there is no room for it anyway."""
        if not self._holdings.room:
            return SWEEP_S
        due_s = max(self._look_at, self._calm_from) - time.monotonic()
        return min(SWEEP_S, max(LOOK_MARGIN_S, due_s))

    async def finish_taking(self) -> None:
        """Return when no take is under way any more; to be called when `run_taking` was cancelled."""
        under_way = [*self._offering] if self._taking is None else [self._taking, *self._offering]
        await asyncio.gather(*under_way, return_exceptions=True)

    async def take(self, rung: Iterable[PartitionKeys]) -> None:
        """Take what is new in the partitions named, and what was abandoned anywhere, as far as there is room."""
        started = time.monotonic()
        room = self._holdings.room
        if room:
            partitions = list(rung)
            # Not always from the same end: with little room the last partitions would starve.
            random.shuffle(partitions)
            await self._begin(await self._claims.take_new(partitions, room))
        self._watch_duration(started)
        if self._holdings.room and time.monotonic() >= max(self._calm_from, self._look_at):
            taken = await self._claims.take_over(self._holdings.room)
            # Not a second late, where it is known when the next claim runs out; never in a tight loop.
            self._look_at = time.monotonic() + min(SWEEP_S, self._claims.next_takeover_ms / 1000 + LOOK_MARGIN_S)
            self._metrics.takeovers.inc(len(taken))
            await self._begin([claim for claim in taken if claim.keys.member not in self._holdings])
            self._watch_duration(started)
        self.looked_at = time.monotonic()

    async def run_renewing(self) -> None:
        """Renew every claim each third of a lease, until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                await self.renew()
            except LogUnavailableError as error:
                log.warning("claims not renewed, trying again", extra={"error": error})
                self.troubled()

    async def renew(self) -> None:
        """Renew every claim once; let go of those that are lost."""
        started = time.monotonic()
        runs = {run.claim: run for run in self._holdings}
        lost = await self._claims.renew(list(runs))
        await self._watch_clocks()
        self._watch_duration(started)
        for claim in lost:
            run = runs[claim]
            if run.held and not run.committing:  # a commit under way tells by itself; it may be the run's end
                log.warning("claim lost", extra={"run": claim.keys.member})
                self._metrics.lost.inc()
                self._holdings.drop(run)
        await self._refresh(time.monotonic())

    async def hand_over_all(self) -> None:
        """Offer every run to the others; what was decided but not committed they decide again."""
        claims = self._holdings.claims
        for run in self._holdings:
            self._holdings.drop(run)
        await self._claims.hand_over(claims)
        await self._claims.delete_consumer()

    def offer_again(self, run: ActiveRun) -> None:
        """Let whoever has room begin a run anew from where the log says that it stands: at once, not after a lease."""
        task = asyncio.ensure_future(self._offered_again(run.claim))
        self._offering.add(task)
        task.add_done_callback(self._offering.discard)

    async def _offered_again(self, claim: Claim) -> None:
        try:
            await self._claims.hand_over([claim])
        except LogUnavailableError as error:
            log.info("run not offered again; it is taken over", extra={"run": claim.keys.member, "error": error})

    async def _begin(self, claims: Sequence[Claim]) -> None:
        for claim, began in zip(claims, await self._claims.load(claims), strict=True):
            if began.code == Code.UNKNOWN:
                self.troubled()  # the claim comes back after a lease
            if began.code != Code.OK:
                continue  # lost again, or nothing is left to do
            run = self._active(claim, began)
            if run is None:
                continue
            if began.checkpoint.suspicion > self._settings.suspicion_limit:
                self._metrics.suspicions.inc()
                self._on_suspect(run)
            else:
                self._holdings.add(run)
                log.info("run taken", extra={"run": claim.keys.member, "trace_id": trace_id(run.start.traceparent)})

    def _active(self, claim: Claim, began: LoadedRun) -> ActiveRun | None:
        if began.start is None:
            self._on_poison(claim, "the start event is none of this build")
            return None
        try:
            timeline = Timeline(began.start, began.checkpoint)
        except ValueError as error:  # msgspec's ValidationError is one
            self._on_poison(claim, f"settings not of this build: {error}")
            return None
        run = ActiveRun(claim, began.start, began.checkpoint, began.last_fact, timeline)
        run.total_samples, run.source = began.total_samples, began.source
        run.refreshed = time.monotonic()
        return run

    def _watch_duration(self, started: float) -> None:
        """A call that took longer than a third of the lease: the others' renewals may have waited as long."""
        if time.monotonic() - started > self._lease_s / 3:
            self.unsettle()

    async def _watch_clocks(self) -> None:
        """A step between Redis's clock and ours makes idle times lie: calm down for a lease then."""
        offset_ms = await self._claims.server.time_ms() - time.monotonic_ns() // 1_000_000
        before, self._clock_offset_ms = self._clock_offset_ms, offset_ms
        if before is not None and abs(offset_ms - before) > self._settings.lease_ms / 3:
            log.warning("clock step", extra={"step_ms": offset_ms - before})
            self.unsettle()

    async def _refresh(self, now: float) -> None:
        every_s = min(LONGEST_REFRESH_S, self._settings.session_ttl_s / TTL_SHARE)
        stale = [run for run in self._holdings if now - run.refreshed > every_s]
        for run in stale:
            run.refreshed = now
        if not stale:
            return
        server, ttl_s = self._claims.server, self._settings.session_ttl_s
        commands: list[tuple[str | int, ...]] = []
        now_ms = await server.time_ms()
        for run in stale:
            keys = run.claim.keys
            commands += [("EXPIRE", key, ttl_s) for key in keys.expiring()]
            commands.append(("ZADD", keys.partition.index, "XX", now_ms, keys.member))
        await server.execute_many(commands)
