"""What an edge counts and measures for Prometheus, and where it is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from edge import errors
from edge.auth.access import Scope
from edge.contract.operations import TEXT, Answer, Operation, principal_of
from edge.errors import ApiError, ErrorCode
from eventlog.telemetry import tracing
from eventlog.telemetry.metering import OPENMETRICS, Meter, Reading

if TYPE_CHECKING:
    from edge.core import EdgeCore
    from edge.websocket.connection import Connection

FLUSH_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""A flush takes some milliseconds; what takes a second holds sockets back."""

HTTP_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""From a probe to a recording that is awaited."""


class EdgeMetrics:
    """The counters and histograms of one edge; `EdgeCollector` has what is only looked at."""

    def __init__(self, meter: Meter) -> None:
        """Count in the registry of `meter`."""
        registry = meter.registry
        self.append_s = Histogram(
            "stenolog_edge_append_duration_seconds", "Flushes of gathered audio into the log.",
            buckets=FLUSH_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._requests = Histogram(
            "stenolog_edge_http_request_duration_seconds", "Time until an HTTP request's answer began.",
            ["operation", "status"], buckets=HTTP_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._errors = Counter(
            "stenolog_edge_errors", "Troubles that clients were told of, by code.", ["code"], registry=registry
        )
        self._opened = Counter(
            "stenolog_edge_sessions_opened", "Sessions opened, and resumed, by clients of this edge.",
            ["type"], registry=registry,
        )  # fmt: skip
        self._ended = Counter(
            "stenolog_edge_sessions_ended", "Sessions whose end a client of this edge was told, by reason.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.refilled_entries = self.lost_samples = self.acks = 0
        for trouble in errors.TABLE:  # a rate needs the zero before the first
            self._errors.labels(trouble.code)
        for how in ("created", "resumed"):
            self._opened.labels(how)

    def trouble(self, trouble: ErrorCode) -> None:
        """Count what a client is told."""
        self._errors.labels(trouble.code).inc()

    def opened(self, *, resumed: bool) -> None:
        """Count a session that a client opened or resumed."""
        self._opened.labels("resumed" if resumed else "created").inc()

    def ended(self, reason: str) -> None:
        """Count a session whose end a client heard of."""
        self._ended.labels(reason).inc()

    def left(self, connection: Connection) -> None:
        """Keep what a connection counted that is no more."""
        self.acks += connection.acks
        self.refilled_entries += connection.uplink.refilled
        self.lost_samples += connection.uplink.lost_samples

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count an HTTP request."""
        self._requests.labels(operation, status).observe(seconds)


class EdgeCollector:
    """What is looked at when somebody asks; perhaps from another thread, so only copies are walked over."""

    def __init__(self, core: EdgeCore) -> None:
        """Look at `core`."""
        self._core = core

    def __call__(self) -> Iterator[Reading]:
        """All of it, now."""
        core = self._core
        live = tuple(core.connections)
        gatherer, kept = core.gatherer, core.metrics
        states: dict[str, float] = {}
        for one in live:
            states[one.state] = states.get(one.state, 0) + 1
        yield Reading("gauge", "stenolog_edge_connections", "Open streams, by state.", label="state", values=states)
        yield Reading("counter", "stenolog_edge_appended_entries", "Entries sent to the log.", gatherer.appends)
        yield Reading("counter", "stenolog_edge_appended_bytes", "Their payload.", gatherer.appended_bytes)
        yield Reading("gauge", "stenolog_edge_append_pending_sessions", "Sessions that wait for a flush.", gatherer.waiting)
        yield Reading(
            "counter", "stenolog_edge_acks", "Acks sent to clients.", kept.acks + sum(one.acks for one in live)
        )
        yield Reading(
            "gauge", "stenolog_edge_unacked_bytes", "Received, and not known to be in the log.",
            sum(one.uplink.unacked_bytes for one in live),
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_edge_outbox_messages", "Messages that wait for their clients.",
            sum(one.outbox.waiting for one in live),
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_edge_resent_entries", "Sent again, since the log had lost them.",
            kept.refilled_entries + sum(one.uplink.refilled for one in live),
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_edge_lost_samples", "Lost by the log and not to be had any more.",
            kept.lost_samples + sum(one.uplink.lost_samples for one in live),
        )  # fmt: skip
        confirming = core.log.durable_calls
        yield Reading(
            "counter", "stenolog_edge_unconfirmed_calls", "Writes that too few replicas had in time.",
            confirming.unconfirmed,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_edge_replica_shortfall", "1 while fewer replicas answer than acks are to wait for.",
            float(confirming.is_short),
        )  # fmt: skip
        yield Reading("gauge", "stenolog_edge_event_streams", "Server-sent event streams open.", core.streams.count)
        yield Reading(
            "counter", "stenolog_edge_event_streams_dropped", "Of them, dropped since their clients read too slowly.",
            core.streams.dropped_slow,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_edge_throttled_sessions", "Sessions whose audio waits for Redis to have memory.",
            core.gatherer.pressed,
        )  # fmt: skip
        nodes = tuple(core.pressure.nodes.items())
        yield Reading(
            "gauge", "stenolog_redis_memory_ratio", "How full each node of Redis is, where it has a bound.",
            label="node", values={name: one.percent / 100 for name, one in nodes if one.limit_bytes},
        )  # fmt: skip
        yield Reading("gauge", "stenolog_edge_draining", "1 while this edge shuts down.", float(core.draining))


class Observed:
    """ASGI middleware: each HTTP request is timed, and the trace context of each connection is at hand in its task."""

    def __init__(self, app: ASGIApp, metrics: EdgeMetrics) -> None:
        """Around `app`."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One connection; of a WebSocket's frames nothing comes by here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        tracing.current.set(tracing.parse_traceparent(given.decode("latin-1")))
        if scope["type"] == "http":
            await self._timed(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _timed(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.answered(scope.get("operation", "unknown"), status, time.perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:  # a defect, which is answered further out
            if not status:
                self._metrics.answered(scope.get("operation", "unknown"), 500, time.perf_counter() - started)
            raise


class Metrics:
    """``/metrics``."""

    def __init__(self, core: EdgeCore) -> None:
        """Expose what the process of `core` counts."""
        self._meter = core.server.meter

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "GET", "/metrics", "metrics", "Health", "This process's metrics, for Prometheus.", self.metrics,
                Scope.ADMIN,
                [Answer(200, "The metrics.", {TEXT: {"type": "string"}, OPENMETRICS: {"type": "string"}})],
                description="They are the deployment's, not a tenant's: with authentication on, an operator's token is "
                "needed. `STENOLOG_METRICS_PORT` offers the same without one, on an address of its own.",
            ),
        )  # fmt: skip

    async def metrics(self, request: Request) -> Response:
        """The metrics, in the format that ``Accept`` prefers."""
        if not principal_of(request).any_tenant:
            raise ApiError(errors.FORBIDDEN, "metrics are for an operator's token")
        # In a thread: hundreds of series take milliseconds, and sockets shouldn't wait for them.
        body, kind = await asyncio.to_thread(self._meter.exposition, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind, "cache-control": "no-store"})
