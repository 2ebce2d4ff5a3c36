"""All projections of one process: bells, loops, and the trimming of notices."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence

from eventlog.bells import Bells
from eventlog.log import LogUnavailableError
from eventlog.projecting import ProjectionLog, trim_changes
from eventlog.server import Server
from projections.projection import Projection
from projections.projector import Projector
from projections.sweeping import sweep_open_runs

TRIM_S = 10.0
"""Between two trims of all partitions: at 1,000 notices a second some 2 MB wait for it."""

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
        changes_max_notices: int,
    ) -> None:
        """Project as `consumer`, which must be unique among the living processes.

        Args:
            server: Where the log is.
            projections: Which to run.
            consumer: Name in every consumer group, and in heartbeats and dead letters.
            session_ttl_s: Time to live of what is written, seconds.
            changes_max_notices: Most notices kept in a partition's `changes`.
        """
        self._server = server
        self._most_notices = changes_max_notices
        self.projectors = [
            Projector(projection, ProjectionLog(server, projection.name, consumer, session_ttl_s=session_ttl_s))
            for projection in projections
        ]
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
        self._tasks.append(asyncio.create_task(self._trim_now_and_then(), name="trim"))
        await self._bells.start()

    async def stop(self) -> None:
        """Finish the rounds under way and end; safe at any time and more than once."""
        self._stopping.set()
        self._ring(None)
        await self._bells.stop()
        tasks, self._tasks = self._tasks, []
        if tasks:
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

    async def _trim_now_and_then(self) -> None:
        while not self._stopping.is_set():
            # Spread out, or all processes would trim in the same instant.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TRIM_S * random.uniform(0.5, 1.5))  # noqa: S311
                return
            try:
                walking = await trim_changes(self._server, self._server.keys.partitions, most=self._most_notices)
                await sweep_open_runs(self._server)
            except LogUnavailableError as error:
                _log.debug("not trimmed: %s", error)
                continue
            except Exception:  # noqa: BLE001 - trimming must not end with one trouble; it is told and tried again
                _log.exception("trimming failed")
                continue
            for name, partitions in walking.items():
                _log.warning("projection %s fell behind the bound in %d partitions", name, partitions)
