"""Liveness and readiness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge.core import EdgeCore
from edge.operations import JSON, Answer, Operation
from eventlog import heartbeats, keys
from eventlog.log import LogUnavailableError

PROBE_TIMEOUT_S = 2.0
"""Balancers give up on a probe after some seconds; a Redis that takes longer isn't one to send clients to."""

PROBE_CACHE_S = 0.5
"""Probes from any number of balancers cost Redis two looks a second."""

WORKER_ROLE = "worker"


class Liveness(msgspec.Struct):
    """What ``/v1/health`` says."""

    status: str
    version: str
    active_sessions: int


class Readiness(msgspec.Struct):
    """What ``/v1/ready`` says."""

    ready: bool
    redis: bool
    workers: int
    projections: int
    active_sessions: int
    draining: bool
    reasons: list[str]
    """Why not, for a person."""


class Health:
    """The two probes."""

    def __init__(self, core: EdgeCore) -> None:
        """Probe what `core` depends on."""
        self._core = core
        self._probed_at = 0.0
        self._last: Readiness | None = None
        self._lock = asyncio.Lock()

    def operations(self) -> Sequence[Operation]:
        """See `edge.operations`."""
        return (
            Operation(
                "GET", "/v1/health", "health", "Health", "Whether this process answers.", self.health, None,
                [Answer(200, "It does.", {JSON: Liveness})],
            ),
            Operation(
                "GET", "/v1/ready", "ready", "Health", "Whether a new session would be transcribed.", self.ready, None,
                [Answer(200, "It would.", {JSON: Readiness}), Answer(503, "It would not.", {JSON: Readiness})],
            ),
        )  # fmt: skip

    async def health(self, _request: Request) -> Response:
        """200 as long as this process answers."""
        core = self._core
        return json_response(Liveness("ok", core.settings.version, len(core.connections)))

    async def ready(self, _request: Request) -> Response:
        """200 if a new session would be transcribed, else 503."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._probed_at > PROBE_CACHE_S:
                self._last = await self._probe()
                self._probed_at = time.monotonic()
            found = self._last
        return json_response(found, 200 if found.ready else 503)

    async def _probe(self) -> Readiness:
        core = self._core
        alive: dict[str, int] = {}
        redis = True
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                # A write, since a full or read-only Redis is no use. SET of what is there changes nothing.
                await core.server.execute("SET", keys.partition_count(), len(core.server.keys.partitions))
                for beat in await heartbeats.read_all(core.server):
                    if beat.age_ms <= core.settings.ready_stale_s * 1000:
                        alive[beat.role] = alive.get(beat.role, 0) + 1
        except (TimeoutError, LogUnavailableError):
            redis = False
        workers = alive.get(WORKER_ROLE, 0)
        reasons = [] if redis else ["Redis can't be written"]
        if redis and not workers:
            reasons.append(f"no worker has consumed for {core.settings.ready_stale_s:g} s")
        if core.draining:
            reasons.append("shutting down")
        projections = sum(count for role, count in alive.items() if role not in {WORKER_ROLE, "edge"})
        return Readiness(
            not reasons, redis, workers, projections, len(core.connections), core.draining, reasons
        )


def json_response(body: Any, status: int = 200) -> Response:  # noqa: ANN401 - anything that msgspec encodes
    """A JSON answer that nobody caches."""
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(body), status, headers=headers, media_type="application/json")
