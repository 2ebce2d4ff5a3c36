"""Liveness and readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge.contract.operations import JSON, Answer, Operation, json_response
from edge.core import EdgeCore
from edge.views.answer_cache import AnswerCache
from eventlog import keys
from eventlog.log import LogUnavailableError
from eventlog.redis.memory import Level
from eventlog.work import heartbeats
from eventlog.work.lag import Lag, read_lag

PROBE_TIMEOUT_S = 2.0
"""Balancers give up on a probe after some seconds; a slower Redis cannot serve clients."""

EDGE_ROLE, WORKER_ROLE, PROJECTION_ROLE = "edge", "worker", "projection."

CAPTIONS = ("lists", "feeds")
"""The projections without which no client gets its words: without them the edge is not ready."""


class Liveness(msgspec.Struct):
    """The answer of ``/v1/health``."""

    status: str
    version: str
    active_sessions: int


class Readiness(msgspec.Struct):
    """The answer of ``/v1/ready``."""

    ready: bool
    redis: bool
    workers: int
    """Processes that have consumed lately."""
    projections: dict[str, int]
    """By name: processes with a recent heartbeat."""
    active_sessions: int
    """Connected to this edge."""
    all_active_sessions: int
    """Connected to any edge."""
    lag_s: float
    """The longest wait for captions: a session's for a worker, speech's for its text, a fact's for lists and feeds."""
    memory_percent: float | None
    """How full the fullest node of Redis is; null if it has no bound, or that is unknown."""
    draining: bool
    reasons: list[str]
    """Why it is not ready, for a person."""
    warnings: list[str]
    """Failures that keep no client from its words."""


class _Probe(NamedTuple):
    """The findings of one probe."""

    redis: bool = False
    beats: Sequence[heartbeats.Heartbeat] = ()
    lag: Lag = Lag(0.0, {})


class Health:
    """The two probes."""

    def __init__(self, core: EdgeCore) -> None:
        """Probe what `core` depends on."""
        self._core = core
        self._probes = AnswerCache(self._probe)

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
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
        found = self._judge(await self._probes.get())
        return json_response(found, 200 if found.ready else 503)

    async def _probe(self, _kind: str) -> _Probe:
        server = self._core.server
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                # A write, since a full or read-only Redis is useless. SET of the stored value changes nothing.
                await server.execute("SET", keys.partition_count(), len(server.keys.partitions))
                return _Probe(redis=True, beats=await heartbeats.read_all(server), lag=await read_lag(server))
        except (TimeoutError, LogUnavailableError):
            return _Probe()

    def _judge(self, probe: _Probe) -> Readiness:
        core, stale_ms = self._core, self._core.settings.ready_stale_s * 1000
        alive = [beat for beat in probe.beats if beat.age_ms <= stale_ms]
        workers = [beat for beat in alive if beat.role == WORKER_ROLE and _silent_ms(beat) <= stale_ms]
        projections = dict.fromkeys(keys.READ_MODELS, 0)
        for beat in alive:
            if beat.role.startswith(PROJECTION_ROLE) and not beat.payload.get("leaving"):
                name = beat.role.removeprefix(PROJECTION_ROLE)
                projections[name] = projections.get(name, 0) + 1
        for name in _missing_sinks(probe):
            projections.setdefault(name, 0)
        others = [beat for beat in alive if beat.role == EDGE_ROLE and beat.consumer != core.settings.name]
        reasons = list(self._reasons(probe, workers, projections))
        return Readiness(
            ready=not reasons, redis=probe.redis, workers=len(workers), projections=projections,
            active_sessions=len(core.connections),
            all_active_sessions=len(core.connections) + int(sum(_number(beat, "active_sessions") for beat in others)),
            lag_s=max(lag_s for _, lag_s in _lags(probe, workers)),
            memory_percent=None if (full := core.watermarks.percent) is None else round(full, 1),
            draining=core.is_draining,
            reasons=reasons, warnings=list(self._warnings(probe, projections)),
        )  # fmt: skip

    def _reasons(
        self, probe: _Probe, workers: Sequence[heartbeats.Heartbeat], projections: dict[str, int]
    ) -> Iterator[str]:
        settings = self._core.settings
        if self._core.is_draining:
            yield "shutting down"
        if self._core.has_failed:
            yield "a part of this process has failed; it restarts"
        if not probe.redis:
            yield "Redis accepts no writes"
            return
        if self._core.watermarks.level is Level.CRITICAL:
            yield "Redis is short of memory: no audio is appended"
        if not workers:
            yield f"no worker has consumed for {settings.ready_stale_s:g} s"
        for name in CAPTIONS:
            if not projections[name]:
                yield f"projection {name} has had no heartbeat for {settings.ready_stale_s:g} s"
        for what, lag_s in _lags(probe, workers):
            if lag_s > settings.ready_lag_s:
                yield f"{what} for {lag_s:.0f} s"

    def _warnings(self, probe: _Probe, projections: dict[str, int]) -> Iterator[str]:
        if not probe.redis:
            return
        if (worst := self._core.watermarks.worst) is not Level.NORMAL:
            # The edge stays ready: else a resuming client would find no replica. New sessions get a reason.
            what = "no new sessions" if worst is Level.HIGH else "no new sessions and no audio"
            yield f"Redis is {self._core.watermarks.percent or 0:.0f} % full: {what} where it is"
        settings = self._core.settings
        for name, count in projections.items():
            if name in CAPTIONS:
                continue
            if not count:
                yield f"projection {name} has had no heartbeat for {settings.ready_stale_s:g} s"
            elif (lag_s := probe.lag.projections_s.get(name, 0.0)) > settings.ready_lag_s:
                yield f"a notice waits for projection {name} for {lag_s:.0f} s"
            elif (failing_s := _failing_s(probe, name)) > settings.ready_lag_s:
                yield f"forwarding to {name} has failed for {failing_s:.0f} s"


def _missing_sinks(probe: _Probe) -> set[str]:
    """Sinks with a forwarder in the last minutes, as long as heartbeats are kept, that did not stop in order."""
    sinks = {f"{PROJECTION_ROLE}{name}": name for name in keys.SINKS}
    return {sinks[beat.role] for beat in probe.beats if beat.role in sinks and not beat.payload.get("leaving")}


def _failing_s(probe: _Probe, name: str) -> float:
    """For how long a sink has refused the event that failed first, by its processes' last heartbeats."""
    role = f"{PROJECTION_ROLE}{name}"
    return max((_number(beat, "failing_s") for beat in probe.beats if beat.role == role), default=0.0)


def _lags(probe: _Probe, workers: Sequence[heartbeats.Heartbeat]) -> Iterator[tuple[str, float]]:
    """Each cause that delays captions, and its delay by now."""
    yield "a session waits for a worker", probe.lag.unclaimed_s
    yield "speech waits for its text", max(map(_waited_s, workers), default=0.0)
    for name in CAPTIONS:
        yield f"a notice waits for projection {name}", probe.lag.projections_s.get(name, 0.0)


def _silent_ms(beat: heartbeats.Heartbeat) -> float:
    """How long a worker has read no audio and checked no claims, as far as its heartbeat shows."""
    return beat.age_ms + 1000 * _number(beat, "consumed_age_s")


def _waited_s(beat: heartbeats.Heartbeat) -> float:
    """How long a worker's oldest utterance has waited by now to be recognised and committed."""
    waited_s = _number(beat, "oldest_decision_s")
    return waited_s + beat.age_ms / 1000 if waited_s else 0.0


def _number(beat: heartbeats.Heartbeat, name: str) -> float:
    value = beat.payload.get(name, 0)
    return value if isinstance(value, int | float) else 0
