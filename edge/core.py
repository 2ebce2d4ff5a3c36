"""What all connections of one edge process share, and its background work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from edge import errors
from edge.auth.access import Access, Authenticator, NoAuthentication
from edge.metrics import EdgeCollector, EdgeMetrics
from edge.session.append_batcher import AppendBatcher
from edge.session.lifecycle import State
from edge.session.memory_throttle import MemoryWatermarks
from edge.session.opener import Opener
from edge.session.reservations import Reservation, Reservations
from edge.session.upload_credit import UploadCredit
from edge.settings import EdgeSettings
from edge.streams.fan_out import FanOut
from edge.streams.sse import EventStreams
from edge.websocket.connection import Connection
from eventlog.keys import RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.readmodel import views
from eventlog.redis.memory import Watermarks
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server
from eventlog.telemetry import heartbeats

logger = logging.getLogger(__name__)

ACK_SWEEP_S = 0.1
"""Between two looks for acks that wait for no further chunk; a client that paused hears of them soon after."""

LAPSE_LOOK_S = 1.0
"""Between two looks for connections whose token expired too long ago; the bound is meant in minutes."""

HEARTBEAT_S = 1.0
"""Between two notes that this edge lives."""

DRAIN_S = 3.0
"""For a leaving edge to get its audio into the log and its goodbyes out; supervisors kill after ten seconds or more."""

DRAIN_LOOK_S = 0.02

ROLE = "edge"


class EdgeCore:
    """One edge process: its gatherer, fan-out, opener and connections."""

    def __init__(
        self, settings: EdgeSettings, server: Server, log: RedisLog, authenticator: Authenticator | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Serve sessions in `log`, which lies on `server`; without `authenticator` to everybody."""
        self.settings = settings
        self.server = server
        self.log = log
        self.metrics = EdgeMetrics(server.meter)
        marks = Watermarks(settings.memory_high_watermark_percent, settings.memory_critical_watermark_percent)
        self.pressure = MemoryWatermarks(server, marks, limit_bytes=settings.memory_limit_bytes)
        self.gatherer = AppendBatcher(
            log, flush_ms=settings.flush_ms, flush_bytes=settings.flush_bytes, gone_s=settings.redis_outage_timeout_s,
            meter=self.metrics.append_s.observe, credit=UploadCredit(server, settings.max_upload_ahead_bytes),
            pressure=self.pressure,
        )  # fmt: skip
        self.fanout = FanOut(server)
        self.streams = EventStreams(self.fanout, settings)
        self.access = Access(log, authenticator or NoAuthentication(), settings, now)
        self.reservations = Reservations(
            server, limit=settings.max_sessions, ttl_s=settings.reservation_ttl_s,
            tenant_limit=settings.max_sessions_per_tenant,
        )  # fmt: skip
        self.opener = Opener(log, server.keys, self.reservations, settings, self.metrics, pressure=self.pressure)
        self.connections: set[Connection] = set()
        self.draining = False
        server.meter.read_when_asked(EdgeCollector(self))
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin the background work."""
        self.gatherer.start()
        self._spawn(self.pressure.run())
        await self.fanout.start()
        self._spawn(self._regularly(ACK_SWEEP_S, self._sweep_acks))
        self._spawn(self._regularly(self.settings.reservation_ttl_s / 3, self._renew))
        self._spawn(self._regularly(HEARTBEAT_S, self._beat))
        self._spawn(self._regularly(self.streams.sweep_s, self.streams.sweep))
        self._spawn(self._regularly(LAPSE_LOOK_S, self._close_lapsed))

    async def stop(self) -> None:
        """End the background work; `drain` comes first where clients are to be told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.fanout.stop()
        await self.gatherer.stop()

    async def drain(self) -> None:
        """Take no new connection, get what came into the log, tell every client to reconnect, wait for the goodbyes."""
        self.draining = True
        self.streams.drain()
        deadline = time.monotonic() + DRAIN_S
        await self._until(lambda: self.gatherer.idle, deadline)
        for connection in tuple(self.connections):
            if connection.state is not State.CLOSING:
                connection.leave()
        await self._until(lambda: all(one.outbox.done for one in self.connections), deadline)
        for connection in tuple(self.connections):
            connection.leave()

    async def release(self, place: Reservation) -> None:
        """Free an ended session's place; if Redis is away, it frees itself."""
        await self.opener.release(place)

    async def transcript(self, keys: RunKeys) -> str | None:
        """The stitched transcript's text, or None while there is none.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        document = await views.read_document(self.server, keys)
        return None if document is None else document.transcript

    def resume_forgotten(self, connection: Connection) -> None:
        """Raise the epoch again for a connection whose own resume the log lost in a failover."""
        self._spawn(self._resume_forgotten(connection))

    async def _resume_forgotten(self, connection: Connection) -> None:
        session = connection.session
        while connection.state is not State.CLOSED:
            try:
                opened = await self.log.resume(session.stream, session.token_hash)
            except LogUnavailableError:
                await asyncio.sleep(ACK_SWEEP_S)
                continue
            if opened.code is Code.OK:
                connection.uplink.resumed(opened.epoch, opened.head)
                self.gatherer.enqueue(connection.feeder, 0)
            else:
                connection.fail(errors.SESSION_GONE, "the session is gone")
            return

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until(self, done: Callable[[], bool], deadline: float) -> None:
        while time.monotonic() < deadline and not done():  # noqa: ASYNC110 - of thousands, once in a process's life
            await asyncio.sleep(DRAIN_LOOK_S)

    async def _regularly(self, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period_s)
            try:
                await work()
            except LogUnavailableError as error:
                logger.debug("left to the next round", extra={"error": error})  # told loudly where appends fail
            except Exception:  # it must go on, whatever one round ran into
                logger.exception("background work failed by a defect")

    async def _sweep_acks(self) -> None:
        now = time.monotonic()
        for connection in self.connections:
            connection.tell_what_waits(now)

    async def _close_lapsed(self) -> None:
        for connection in tuple(self.connections):
            left_s = self.access.expires_in_s(connection.session.principal)
            if left_s is not None and left_s <= 0:
                connection.fail(errors.TOKEN_EXPIRED, "resume with a new token")

    async def _renew(self) -> None:
        held = {one.session.reservation: one for one in self.connections if one.state is not State.CLOSED}
        for connection, code in zip(held.values(), await self.reservations.take(list(held)), strict=True):
            # This process stood still for so long that its place went to somebody else.
            if code in {Code.FULL, Code.TENANT_FULL}:
                connection.fail(errors.LOG_UNAVAILABLE, f"place lost; durable up to offset {connection.uplink.acked_samples}")

    async def _beat(self) -> None:
        beat = {"active_sessions": len(self.connections), "draining": self.draining}
        await heartbeats.write(self.server, ROLE, self.settings.name, beat)
