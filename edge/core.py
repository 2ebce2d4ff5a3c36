"""The parts that all connections of one edge process share, and its background work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from edge import errors
from edge.auth.access import Access, Authenticator, NoAuthentication
from edge.metrics import EdgeMetrics
from edge.session.append_batcher import AppendBatcher
from edge.session.lifecycle import State
from edge.session.memory_watermarks import MemoryWatermarks
from edge.session.offered_abilities import REFRESH_S, OfferedAbilities
from edge.session.opener import Opener
from edge.session.pause_watch import PauseWatch
from edge.session.reservations import Reservation, Reservations
from edge.session.session_closer import SessionCloser
from edge.session.upload_credit import UploadCredit
from edge.settings import EdgeSettings
from edge.streams.fan_out import FanOut
from edge.streams.sse import EventStreams
from edge.websocket.connection import Connection
from eventlog.keys import RunKeys
from eventlog.log import Code
from eventlog.readmodel import views
from eventlog.redis.memory import Watermarks
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server
from eventlog.service import ServiceTasks, periodically
from eventlog.work import heartbeats

SWEEP_S = 0.1
"""Between two sweeps for acks that wait for a further chunk, and for pauses: little against the time that is one."""

EXPIRY_SWEEP_S = 1.0
"""Between two sweeps for connections whose token expired too long ago; the bound is meant in minutes."""

HEARTBEAT_S = 1.0

DRAIN_TIMEOUT_S = 3.0
"""For a leaving edge to append its audio and send its closing messages; supervisors kill after ten seconds or more."""

DRAIN_POLL_S = 0.02

ROLE = "edge"


class EdgeCore:
    """One edge process: its append batcher, fan-out, opener and connections. A `Service`.

    It ends when its append batcher, its fan-out or its memory watermarks do: without one of them sessions would look
    alive and get no acks, no finals or no limits. The process then exits, and its supervisor starts it again.
    """

    def __init__(
        self, settings: EdgeSettings, server: Server, log: RedisLog, authenticator: Authenticator | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Serve sessions in `log`, which lies on `server`; without `authenticator` every caller is admitted."""
        self.settings = settings
        self.server = server
        self.log = log
        self.metrics = EdgeMetrics(server.meter)
        watermarks = Watermarks(settings.memory_high_watermark_percent, settings.memory_critical_watermark_percent)
        self.watermarks = MemoryWatermarks(server, watermarks, limit_bytes=settings.memory_limit_bytes)
        self.batcher = AppendBatcher(
            log, self.watermarks, UploadCredit(server, settings.max_upload_ahead_bytes),
            flush_ms=settings.flush_ms, flush_bytes=settings.flush_bytes,
            outage_timeout_s=settings.redis_outage_timeout_s, observe_flush_s=self.metrics.append_s.observe,
        )  # fmt: skip
        self.fanout = FanOut(server)
        self.streams = EventStreams(self.fanout, settings)
        self.access = Access(log, authenticator or NoAuthentication(), settings, now)
        self.reservations = Reservations(
            server, limit=settings.max_sessions, ttl_s=settings.reservation_ttl_s,
            tenant_limit=settings.max_sessions_per_tenant,
        )  # fmt: skip
        self.abilities = OfferedAbilities(server, settings.engine)
        self.opener = Opener(
            log, server.keys, self.reservations, settings, self.metrics, watermarks=self.watermarks,
            abilities=self.abilities,
        )  # fmt: skip
        outage_timeout_s = settings.redis_outage_timeout_s
        self.pauses = PauseWatch(log, outage_timeout_s=outage_timeout_s)
        self.closer = SessionCloser(
            log, self.release, grace_s=settings.close_grace_s, outage_timeout_s=outage_timeout_s,
            on_end=self.metrics.count_ended,
        )  # fmt: skip
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._tasks = ServiceTasks()

    @property
    def has_failed(self) -> bool:
        """Whether a part of the edge has ended that should not have, so that the process is about to exit."""
        return self._tasks.has_failed

    async def start(self) -> None:
        """Begin the background work."""
        await self.batcher.start()
        await self.fanout.start()
        spawn = self._tasks.spawn
        spawn("append batcher", self.batcher.wait())
        spawn("fan-out", self.fanout.wait())
        spawn("memory watermarks", self.watermarks.run())
        for name, period_s, work in (
            ("connection sweep", SWEEP_S, self._sweep_connections),
            ("pause sweep", SWEEP_S, self.pauses.sweep),
            ("close sweep", SWEEP_S, self.closer.sweep),
            ("reservation renewal", self.settings.reservation_ttl_s / 3, self._renew_reservations),
            ("heartbeat", HEARTBEAT_S, self._write_heartbeat),
            ("event stream sweep", self.streams.sweep_s, self.streams.sweep),
            ("token expiry sweep", EXPIRY_SWEEP_S, self._close_expired),
        ):
            spawn(name, periodically(period_s, work, name=name))
        refresh = periodically(REFRESH_S, self.abilities.refresh, name="abilities", at_once=True)
        spawn("offered abilities", refresh)

    async def wait(self) -> None:
        """Return once stopped; raise the defect that ended a part of the edge."""
        await self._tasks.wait()

    async def stop(self) -> None:
        """End the background work; `drain` comes first where clients are to be sent elsewhere."""
        await self._tasks.stop()
        await self.fanout.stop()
        await self.batcher.stop()

    async def drain(self) -> None:
        """Take no new connection, append all received audio, and close every connection with `going_away`."""
        self.is_draining = True
        self.streams.drain()
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        await _until(lambda: self.batcher.is_idle or self.has_failed, deadline)
        for connection in tuple(self.connections):
            if connection.state is not State.CLOSING:
                connection.drain()
        await _until(lambda: all(one.outbox.is_done for one in self.connections), deadline)
        for connection in tuple(self.connections):
            connection.drain()

    async def release(self, reservation: Reservation) -> None:
        """Free an ended session's reservation; if Redis is away, it expires by itself."""
        await self.opener.release(reservation)

    async def read_transcript(self, keys: RunKeys) -> str | None:
        """Read the stitched transcript's text; None before it is stitched.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        document = await views.read_document(self.server, keys)
        return None if document is None else document.transcript

    async def _sweep_connections(self) -> None:
        now = time.monotonic()
        for connection in tuple(self.connections):
            try:
                connection.sweep(now)
            except Exception as error:  # noqa: BLE001 - of this session alone; `fail` logs it
                connection.source.fail(error)

    async def _close_expired(self) -> None:
        for connection in tuple(self.connections):
            left_s = self.access.expires_in_s(connection.session.principal)
            if left_s is not None and left_s <= 0:
                connection.fail(errors.TOKEN_EXPIRED, "resume with a new token")

    async def _renew_reservations(self) -> None:
        live = {one.session.reservation: one for one in self.connections if one.state is not State.CLOSED}
        for connection, code in zip(live.values(), await self.reservations.take(list(live)), strict=True):
            # This process stood still for so long that another session got the reservation.
            if code in {Code.FULL, Code.TENANT_FULL}:
                connection.fail(
                    errors.LOG_UNAVAILABLE, f"reservation lost; durable up to offset {connection.uplink.acked_samples}"
                )

    async def _write_heartbeat(self) -> None:
        beat = {"active_sessions": len(self.connections), "draining": self.is_draining}
        await heartbeats.write(self.server, ROLE, self.settings.name, beat)


async def _until(is_done: Callable[[], bool], deadline: float) -> None:
    while time.monotonic() < deadline and not is_done():  # noqa: ASYNC110 - of thousands, once in a process's life
        await asyncio.sleep(DRAIN_POLL_S)
