"""Diagnostics for `stenolog doctor`: which processes live, whether Redis accepts writes, how many errors occurred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge.auth.access import Scope
from edge.contract.operations import JSON, Answer, Operation, json_response, principal_of
from edge.core import EdgeCore
from edge.views.health import PROBE_TIMEOUT_S
from eventlog import keys
from eventlog.log import LogUnavailableError
from eventlog.redis.durability import check_durability, is_met
from eventlog.work import heartbeats
from eventlog.work.heartbeats import ERRORS, Heartbeat

_MS = 1000


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True):
    """One role of one process."""

    role: str
    """``edge``, ``worker``, or ``projection.<name>``."""
    name: str
    """Host, process id and a random part; for an operator alone, since it reveals hosts."""
    alive: bool
    age_s: float
    """Since its last heartbeat."""
    errors_5min: int
    """Errors that its process logged in the last five minutes; one process may have several roles."""


class DurabilityReport(msgspec.Struct, frozen=True, kw_only=True):
    """The promise of this edge's acks."""

    setting: str
    """``fast``, ``safe`` or ``wait:N``."""
    kept: bool
    """Whether Redis keeps that promise now, as far as the edge can see."""
    findings: list[str]
    """Deviations from the expected state."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``/v1/diagnostics``."""

    version: str
    engine: str
    """Of the sessions that this edge opens."""
    redis: bool
    """Whether Redis accepted a write."""
    redis_write_ms: float | None
    durability: DurabilityReport | None
    """None while Redis can't be asked."""
    errors_5min: int
    """Over all processes, those that died within five minutes too."""
    processes: list[ProcessReport]


class Diagnostics:
    """The deployment as its heartbeats show it."""

    def __init__(self, core: EdgeCore) -> None:
        """Look at the deployment of `core`."""
        self._core = core

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "GET", "/v1/diagnostics", "diagnostics", "Health", "The live processes, and recent errors.",
                self.diagnose, Scope.READ, [Answer(200, "The findings.", {JSON: Diagnosis})],
            ),
        )  # fmt: skip

    async def diagnose(self, request: Request) -> Response:
        """Answer 200 always: an unreachable Redis is a finding."""
        core = self._core
        write_ms, beats, durable = None, list[Heartbeat](), None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                started = time.perf_counter()
                await core.server.execute("SET", keys.partition_count(), len(core.server.keys.partitions))
                write_ms = round((time.perf_counter() - started) * _MS, 3)
                beats = await heartbeats.read_all(core.server)
                durable = await _durable(core)
        except (TimeoutError, LogUnavailableError):
            write_ms = None
        named = principal_of(request).any_tenant
        reports = [_report(beat, core.settings.ready_stale_s, named=named) for beat in beats]
        return json_response(
            Diagnosis(
                version=core.settings.version, engine=core.settings.engine, redis=write_ms is not None,
                redis_write_ms=write_ms, durability=durable, errors_5min=_errors(beats), processes=reports,
            )
        )  # fmt: skip


async def _durable(core: EdgeCore) -> DurabilityReport:
    durability = core.log.durable_calls.durability
    found = await check_durability(core.server, durability)
    # Without addresses: only operators may see them, and the edge's log has them.
    findings = [f"{one.text}: {one.remedy}" for one in dict.fromkeys(one._replace(node="") for one in found)]
    return DurabilityReport(setting=str(durability), kept=is_met(durability, found), findings=findings)


def _report(beat: Heartbeat, stale_s: float, *, named: bool) -> ProcessReport:
    age_s = beat.age_ms / _MS
    return ProcessReport(
        role=beat.role, name=beat.consumer if named else "", alive=age_s <= stale_s, age_s=age_s,
        errors_5min=beat.payload.get(ERRORS, 0),
    )  # fmt: skip


def _errors(beats: Sequence[Heartbeat]) -> int:
    """Each process once: its roles have one log."""
    by_process: dict[str, int] = {}
    for beat in beats:
        by_process[beat.consumer] = max(by_process.get(beat.consumer, 0), beat.payload.get(ERRORS, 0))
    return sum(by_process.values())
