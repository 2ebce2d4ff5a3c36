"""``GET /metrics``: an edge's metrics for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Scope
from edge.contract.operations import TEXT, Answer, Operation, principal_of
from edge.core import EdgeCore
from edge.errors import ApiError
from eventlog.telemetry.metering import OPENMETRICS


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
