"""All projections of one process: bells, loops, and the sweep of open runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from typing import NamedTuple

from eventlog.log import LogUnavailableError
from eventlog.projection.projection_log import ProjectionLog
from eventlog.projection.sink_state import FREED, REDRIVEN
from eventlog.redis.server import Server
from eventlog.redis.wakeups import Wakeups
from eventlog.telemetry.metering import Meter
from projections.forwarding.forwarder import Forwarder, Terms
from projections.forwarding.sink import Sink
from projections.metrics import ProjectionCollector, ProjectionMetrics
from projections.projection import Projection
from projections.projector import Projector
from projections.sweeper import sweep_open_runs

SWEEP_S = 10.0
"""Between two looks for open runs that have expired; nobody minds an expired one in a list for as long."""

STOP_TIMEOUT_S = 5.0
"""A round takes milliseconds; past this Redis doesn't answer, and what is unacked comes again elsewhere."""

_log = logging.getLogger(__name__)


class Forwarding(NamedTuple):
    """Sinks, and how they are driven.

    Attributes:
        sinks: Who is told of events.
        lease_ms: For how long a claim on a partition lasts without being renewed.
        give_up_s: How long an event is tried.
    """

    sinks: Sequence[Sink] = ()
    lease_ms: int = 10_000
    give_up_s: float = 3600.0


NO_FORWARDING = Forwarding()
"""Read models alone."""


class ProjectionRunner:
    """Runs several projections, each with its own group, loop and troubles."""

    def __init__(
        self,
        server: Server,
        projections: Sequence[Projection],
        consumer: str,
        *,
        session_ttl_s: int,
        meter: Meter | None = None,
        forwarding: Forwarding = NO_FORWARDING,
    ) -> None:
        """Project as `consumer`, which must be unique among the living processes.

        Args:
            server: Where the log is.
            projections: Which to run.
            consumer: Name in every consumer group, and in heartbeats and dead letters.
            session_ttl_s: Time to live of what is written, seconds.
            meter: Where to count and measure; nowhere without one.
            forwarding: Sinks outside Redis, and how they are driven.
        """
        self._server = server
        meter = meter or Meter()
        metrics = ProjectionMetrics(meter.registry)
        self.projectors = [
            Projector(
                projection, ProjectionLog(server, projection.name, consumer, session_ttl_s=session_ttl_s), metrics
            )
            for projection in projections
        ]
        terms = Terms(forwarding.lease_ms, forwarding.give_up_s, session_ttl_s)
        self.forwarders = [
            Forwarder(sink, ProjectionLog(server, sink.name, consumer, session_ttl_s=session_ttl_s), terms)
            for sink in forwarding.sinks
        ]
        self.readings = ProjectionCollector(server, self.projectors, self.forwarders)
        meter.read_when_asked(self.readings)
        channels = {partition.changes_bell: partition.number for partition in server.keys.partitions}
        self._bells = Wakeups(
            server,
            list(channels),
            on_message=lambda channel, message: self._hear(channels[channel], message),
            on_reset=lambda: self._ring(None),
        )
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin; returns at once, also while Redis can't be reached."""
        if self._tasks or self._stopping.is_set():
            return
        self._tasks = [
            asyncio.create_task(projector.run(self._stopping), name=f"projection {projector.projection.name}")
            for projector in self.projectors
        ]
        self._tasks.append(asyncio.create_task(self._sweep_now_and_then(), name="sweep"))
        self._counting = asyncio.create_task(self.readings.keep_counting(), name="count notices")
        for forwarder in self.forwarders:
            await forwarder.start()
        await self._bells.start()

    async def stop(self) -> None:
        """Finish the rounds under way and end; safe at any time and more than once."""
        self._stopping.set()
        self._ring(None)
        await self._bells.stop()
        await asyncio.gather(*(forwarder.stop() for forwarder in self.forwarders))
        tasks, self._tasks = self._tasks, []
        if tasks:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)
            _, late = await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def listening(self) -> None:
        """Return as soon as every bell is heard."""
        await self._bells.listening()

    def _hear(self, partition: int, message: bytes) -> None:
        kind, _, sink = message.decode(errors="replace").partition(" ")
        if kind not in (FREED, REDRIVEN):
            self._ring(partition)
        for forwarder in self.forwarders if kind in (FREED, REDRIVEN) else ():
            if forwarder.sink.name == sink and kind == FREED:
                forwarder.wake_to_claim()
            elif forwarder.sink.name == sink:
                forwarder.wake_to_redrive(partition)

    def _ring(self, partition: int | None) -> None:
        for projector in self.projectors:
            projector.ring(partition)
        for forwarder in self.forwarders:
            forwarder.wake(partition)

    async def _sweep_now_and_then(self) -> None:
        while not self._stopping.is_set():
            # Spread out, or all processes would sweep in the same instant.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), SWEEP_S * random.uniform(0.5, 1.5))  # noqa: S311
                return
            try:
                await sweep_open_runs(self._server)
            except LogUnavailableError as error:
                _log.debug("open runs not swept", extra={"error": error})
            except Exception:  # noqa: BLE001 - sweeping must not end with one trouble; it is told and tried again
                _log.exception("sweeping open runs failed")
