"""All projections and forwarders of one process: wake-ups, loops, and the sweep of open runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from eventlog.projection.projection_log import ProjectionLog
from eventlog.projection.sink_state import FREED, REDRIVEN
from eventlog.readmodel.listings import sweep_open_runs
from eventlog.redis.server import Server
from eventlog.redis.wakeups import Wakeups
from eventlog.service import ServiceTasks, periodically
from eventlog.telemetry.metering import Meter
from eventlog.work.erasure import finish_erasures
from projections.applier import ApplyTimer
from projections.forwarding.forwarder import Forwarder, Terms
from projections.forwarding.sink import Sink
from projections.metrics import COUNT_S, ProjectionCollector
from projections.projection import Projection
from projections.projection_loop import ProjectionLoop

SWEEP_S = 10.0
"""Between two looks for open runs that have expired: a listing may show an expired one for as long."""

JITTER = 0.5
"""Share of a period by which housekeeping varies, or all processes would act in the same instant."""

STOP_TIMEOUT_S = 5.0
"""A round takes milliseconds; past this Redis doesn't answer, and unacked notices come again elsewhere."""


class Forwarding(NamedTuple):
    """Sinks, and how they are driven.

    Attributes:
        sinks: The destinations of integration events.
        lease_ms: For how long a claim on a partition lasts without being renewed.
        give_up_s: How long an event is tried.
        with_words: Whether events hold each word with its times.
    """

    sinks: Sequence[Sink] = ()
    lease_ms: int = 10_000
    give_up_s: float = 3600.0
    with_words: bool = False


NO_FORWARDING = Forwarding()
"""Read models alone."""


class ProjectionRunner:
    """Runs several projections, each with its own group and loop: an outage met by one holds up no other."""

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
            session_ttl_s: Time to live of the keys written, seconds.
            meter: Where to count and measure; nowhere without one.
            forwarding: Sinks outside Redis, and how they are driven.
        """
        self._server = server
        meter = meter or Meter()
        timer = ApplyTimer(meter.registry)
        self.loops = [
            ProjectionLoop(one, ProjectionLog(server, one.name, consumer, session_ttl_s=session_ttl_s), timer)
            for one in projections
        ]
        terms = Terms(
            forwarding.lease_ms, forwarding.give_up_s, session_ttl_s, with_words=forwarding.with_words
        )
        self.forwarders = [
            Forwarder(sink, ProjectionLog(server, sink.name, consumer, session_ttl_s=session_ttl_s), terms)
            for sink in forwarding.sinks
        ]
        self.collector = ProjectionCollector(server, self.loops, self.forwarders)
        meter.add_reader(self.collector)
        self._channels = {partition.changes_wakeup: partition.number for partition in server.keys.partitions}
        self._wakeups = Wakeups(server, list(self._channels), on_message=self._on_wakeup, on_reset=self._wake_all)
        self._stopping = asyncio.Event()
        self._tasks = ServiceTasks()
        self._housekeeping: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin; returns at once, also while Redis can't be reached."""
        if self._housekeeping or self._stopping.is_set():
            return
        self._housekeeping = [
            self._tasks.spawn("sweep", periodically(SWEEP_S, self._sweep, name="sweep", jitter=JITTER)),
            self._tasks.spawn("count notices", periodically(
                COUNT_S, self.collector.count_notices, name="count notices", jitter=JITTER, at_once=True
            )),
        ]  # fmt: skip
        for loop in self.loops:
            self._tasks.spawn(f"projection {loop.projection.name}", loop.run(self._stopping))
        for forwarder in self.forwarders:
            await forwarder.start()
            self._tasks.spawn(f"forwarder {forwarder.sink.name}", forwarder.wait())
        await self._wakeups.start()
        self._tasks.spawn("wake-ups", self._wakeups.wait())

    async def wait(self) -> None:
        """Return, or raise its error, as soon as a part of it ends; before `stop`, none should."""
        await self._tasks.wait()

    async def stop(self) -> None:
        """Finish the rounds under way and end; safe at any time and more than once."""
        self._stopping.set()
        self._wake_all()
        for task in self._housekeeping:
            task.cancel()
        await asyncio.gather(
            self._tasks.stop(timeout_s=STOP_TIMEOUT_S), self._wakeups.stop(),
            *(forwarder.stop() for forwarder in self.forwarders),
        )  # fmt: skip

    async def listening(self) -> None:
        """Return as soon as wake-ups of every partition are subscribed."""
        await self._wakeups.listening()

    def _on_wakeup(self, channel: str, message: bytes) -> None:
        partition = self._channels[channel]
        kind, _, sink = message.decode(errors="replace").partition(" ")
        if kind not in (FREED, REDRIVEN):
            for loop in self.loops:
                loop.wake(partition)
            for forwarder in self.forwarders:
                forwarder.notices.wake(partition)
            return
        for forwarder in self.forwarders:
            if forwarder.sink.name == sink and kind == FREED:
                forwarder.wake_to_claim()
            elif forwarder.sink.name == sink:
                forwarder.notices.wake_to_redrive(partition)

    def _wake_all(self) -> None:
        for loop in self.loops:
            loop.wake()
        for forwarder in self.forwarders:
            forwarder.notices.wake()

    async def _sweep(self) -> None:
        await sweep_open_runs(self._server)
        await finish_erasures(self._server)
