"""How far workers and projections are behind, by the age of the oldest entry that still waits for them."""

from __future__ import annotations

from typing import NamedTuple

from eventlog.redis.scripts import script
from eventlog.redis.server import Call, Server

_MS = 1000


class Lag(NamedTuple):
    """Ages in seconds of the oldest waiting entries, by Redis's own clock; 0 where nothing waits."""

    unclaimed_s: float
    """Of the oldest run that no worker has taken yet."""
    projections_s: dict[str, float]
    """Of the oldest notice that each projection hasn't acked yet; they ack once a second."""


async def read_lag(server: Server) -> Lag:
    """Return the lag over all partitions.

    Raises:
        LogUnavailableError: if a partition can't be reached.
    """
    calls = [Call(script("measure_lag"), [keys.sessions, keys.changes], []) for keys in server.keys.partitions]
    unclaimed_ms = 0
    projections_ms: dict[str, int] = {}
    for answer in await server.run_all(calls):
        unclaimed_ms = max(unclaimed_ms, answer[0])
        for name, age_ms in zip(answer[1::2], answer[2::2], strict=True):
            projections_ms[name.decode()] = max(age_ms, projections_ms.get(name.decode(), 0))
    return Lag(unclaimed_ms / _MS, {name: age_ms / _MS for name, age_ms in sorted(projections_ms.items())})
