"""The counters and histograms of an edge, and the middleware that times its HTTP requests."""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge import errors
from edge.errors import ErrorCode
from eventlog.telemetry import tracing
from eventlog.telemetry.metering import Meter

FLUSH_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""A flush takes some milliseconds; one that takes a second holds sockets back."""

HTTP_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""From a probe to a recording that is awaited."""


class EdgeMetrics:
    """The counters and histograms of one edge; `EdgeCollector` reads the rest at each scrape."""

    def __init__(self, meter: Meter) -> None:
        """Count in the registry of `meter`."""
        registry = meter.registry
        self.append_s = Histogram(
            "stenolog_edge_append_duration_seconds", "Flushes of batched audio into the log.",
            buckets=FLUSH_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._requests = Histogram(
            "stenolog_edge_http_request_duration_seconds", "Time until an HTTP request's answer began.",
            ["operation", "status"], buckets=HTTP_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._errors = Counter("stenolog_edge_errors", "Errors sent to clients, by code.", ["code"], registry=registry)
        self._opened = Counter(
            "stenolog_edge_sessions_opened", "Sessions opened, and resumed, by clients of this edge.",
            ["type"], registry=registry,
        )  # fmt: skip
        self._ended = Counter(
            "stenolog_edge_sessions_ended", "Sessions whose end was sent to a client of this edge, by reason.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.resent_entries = self.lost_samples = self.acks = 0
        """Of connections that are closed; an open one has its own."""
        for error_code in errors.TABLE:  # a rate needs the zero before the first
            self._errors.labels(error_code.code)
        for type_ in ("created", "resumed"):
            self._opened.labels(type_)

    def count_error(self, error_code: ErrorCode) -> None:
        """Count an error that a client gets."""
        self._errors.labels(error_code.code).inc()

    def count_opened(self, *, is_resumed: bool) -> None:
        """Count a session that a client opened or resumed."""
        self._opened.labels("resumed" if is_resumed else "created").inc()

    def count_ended(self, reason: str) -> None:
        """Count a session whose end a client gets."""
        self._ended.labels(reason).inc()

    def count_request(self, operation: str, status: int, seconds: float) -> None:
        """Count an HTTP request."""
        self._requests.labels(operation, status).observe(seconds)

    def keep(self, acks: int, resent_entries: int, lost_samples: int) -> None:
        """Keep the counts of a connection that is closed."""
        self.acks += acks
        self.resent_entries += resent_entries
        self.lost_samples += lost_samples


class RequestTimer:
    """ASGI middleware: times each HTTP request, and sets the trace context of each connection in its task."""

    def __init__(self, app: ASGIApp, metrics: EdgeMetrics) -> None:
        """Wrap `app`."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; a WebSocket's frames do not pass here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        tracing.current.set(tracing.parse_traceparent(given.decode("latin-1")))
        if scope["type"] == "http":
            await self._timed(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 0

        async def send_timed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.count_request(scope.get("operation", "unknown"), status, time.perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, send_timed)
        except Exception:  # a defect, which an outer layer answers
            if not status:
                self._metrics.count_request(scope.get("operation", "unknown"), 500, time.perf_counter() - started)
            raise
