"""All projections of one process: bells, loops, and the sweep of open runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence

from eventlog.bells import Bells
from eventlog.log import LogUnavailableError
from eventlog.metering import Meter
from eventlog.projecting import ProjectionLog
from eventlog.server import Server
from projections.metrics import ProjectionMetrics, Readings
from projections.projection import Projection
from projections.projector import Projector
from projections.sweeping import sweep_open_runs

SWEEP_S = 10.0
"""Between two looks for open runs that have expired; nobody minds an expired one in a list for as long."""

STOP_TIMEOUT_S = 5.0
"""A round takes milliseconds; past this Redis doesn't answer, and what is unacked comes again elsewhere."""

_log = logging.getLogger(__name__)


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
    ) -> None:
        """Project as `consumer`, which must be unique among the living processes.

        Args:
            server: Where the log is.
            projections: Which to run.
            consumer: Name in every consumer group, and in heartbeats and dead letters.
            session_ttl_s: Time to live of what is written, seconds.
            meter: Where to count and measure; nowhere without one.
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
        self.readings = Readings(server, self.projectors)
        meter.read_when_asked(self.readings)
        channels = {partition.changes_bell: partition.number for partition in server.keys.partitions}
        self._bells = Bells(
            server,
            list(channels),
            on_message=lambda channel, _: self._ring(channels[channel]),
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
        await self._bells.start()

    async def stop(self) -> None:
        """Finish the rounds under way and end; safe at any time and more than once."""
        self._stopping.set()
        self._ring(None)
        await self._bells.stop()
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

    def _ring(self, partition: int | None) -> None:
        for projector in self.projectors:
            projector.ring(partition)

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
