"""Keeps what the sessions projection wrote true over time: lists of runs, and what was erased."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.keys import PartitionKeys, RunKeys
from eventlog.redis.server import Server
from eventlog.work.erasure import finish_erasures

OLDEST_PER_SWEEP = 100
"""Per partition: the oldest are those that expire; a sweep a few seconds later takes the next hundred."""


async def sweep_open_runs(server: Server) -> int:
    """Take out of each partition's open runs those of the oldest whose view is gone; returns how many.

    The others' tenants' lists live on as long as the views do: a list would expire over a session that lasts longer
    than a TTL, if its tenant opens no other meanwhile. Erasures are finished here too.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    runs = await _oldest(server)
    tenants = await server.execute_many([("HMGET", run.view, "state", "tenant_id") for _, run in runs])
    lives_s = await server.execute_many([("TTL", run.view) for _, run in runs])
    # A view that is missing never comes back: it and its place in the list are made by one script, once.
    gone = [one for one, found in zip(runs, tenants, strict=True) if found == [None, None]]
    await server.execute_many([("ZREM", partition.open_runs, run.member) for partition, run in gone])
    alive = [
        (partition.tenant_runs(found[1].decode()), life_s)
        for (partition, _), found, life_s in zip(runs, tenants, lives_s, strict=True)
        if isinstance(found, list) and found[1] is not None and isinstance(life_s, int) and life_s > 0
    ]
    await server.execute_many([("EXPIRE", of_tenant, life_s, "GT") for of_tenant, life_s in _longest(alive)])
    await finish_erasures(server)
    return len(gone)


async def _oldest(server: Server) -> list[tuple[PartitionKeys, RunKeys]]:
    partitions = server.keys.partitions
    oldest = await server.execute_many(
        [("ZRANGE", partition.open_runs, 0, OLDEST_PER_SWEEP - 1) for partition in partitions]
    )
    return [
        (partition, server.keys.of_run(member.decode()))
        for partition, found in zip(partitions, oldest, strict=True)
        if not isinstance(found, Exception)
        for member in found
    ]


def _longest(lives: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    longest: dict[str, int] = {}
    for key, life_s in lives:
        longest[key] = max(life_s, longest.get(key, 0))
    return list(longest.items())
