"""``GET /metrics``: an edge's metrics for Prometheus, and the readings taken at each scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Scope
from edge.contract.operations import TEXT, Answer, Operation, principal_of
from edge.core import EdgeCore
from edge.errors import ApiError
from eventlog.telemetry.metering import OPENMETRICS, Reading


class EdgeCollector:
    """Reads the gauges and plain counters at each scrape, perhaps in another thread: it iterates over copies alone."""

    def __init__(self, core: EdgeCore) -> None:
        """Read `core`."""
        self._core = core

    def __call__(self) -> Iterator[Reading]:
        """Yield every reading, as of now."""
        core = self._core
        live = tuple(core.connections)
        batcher, metrics = core.batcher, core.metrics
        states: dict[str, float] = {}
        for one in live:
            states[one.state] = states.get(one.state, 0) + 1
        yield Reading("gauge", "stenolog_edge_connections", "Open streams, by state.", label="state", values=states)
        yield Reading("counter", "stenolog_edge_appended_entries", "Entries sent to the log.", batcher.appends)
        yield Reading("counter", "stenolog_edge_appended_bytes", "Their payload.", batcher.appended_bytes)
        yield Reading(
            "gauge", "stenolog_edge_append_pending_sessions", "Sessions that wait for a flush.",
            batcher.pending_sessions,
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_edge_acks", "Acks sent to clients.",
            metrics.acks + sum(one.outbox.acks for one in live),
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_edge_unacked_bytes", "Received, and not known to be in the log.",
            sum(one.uplink.unacked_bytes for one in live),
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_edge_outbox_messages", "Messages that wait for their clients.",
            sum(one.outbox.waiting for one in live),
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_edge_resent_entries", "Appended again, since the log had lost them.",
            metrics.resent_entries + sum(one.uplink.resent_entries for one in live),
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_edge_lost_samples", "Lost by the log, and no longer in the resend buffer.",
            metrics.lost_samples + sum(one.uplink.lost_samples for one in live),
        )  # fmt: skip
        confirming = core.log.durable_calls
        yield Reading(
            "counter", "stenolog_edge_unconfirmed_calls", "Writes that too few replicas had in time.",
            confirming.unconfirmed,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_edge_replica_shortfall", "1 while fewer replicas answer than an ack needs.",
            float(confirming.is_short),
        )  # fmt: skip
        yield Reading("gauge", "stenolog_edge_event_streams", "Server-sent event streams open.", core.streams.count)
        yield Reading(
            "counter", "stenolog_edge_event_streams_dropped", "Of them, dropped since their clients read too slowly.",
            core.streams.dropped_slow,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_edge_throttled_sessions", "Sessions whose audio waits for Redis to have memory.",
            batcher.throttled_sessions,
        )  # fmt: skip
        nodes = tuple(core.watermarks.nodes.items())
        yield Reading(
            "gauge", "stenolog_redis_memory_ratio", "How full each node of Redis with a memory bound is.",
            label="node", values={name: one.percent / 100 for name, one in nodes if one.limit_bytes},
        )  # fmt: skip
        yield Reading("gauge", "stenolog_edge_draining", "1 while this edge shuts down.", float(core.is_draining))


class MetricsEndpoint:
    """``/metrics``."""

    def __init__(self, core: EdgeCore) -> None:
        """Expose the metrics of the process of `core`."""
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
        """Answer with the metrics, in the format that ``Accept`` prefers."""
        if not principal_of(request).any_tenant:
            raise ApiError(errors.FORBIDDEN, "metrics are for an operator's token")
        # In a thread: hundreds of series take milliseconds, and sockets shouldn't wait for them.
        body, kind = await asyncio.to_thread(self._meter.exposition, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind, "cache-control": "no-store"})
