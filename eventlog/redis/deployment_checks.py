"""What a process and the deployment must agree on before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventlog import keys
from eventlog.log import LogUnavailableError

if TYPE_CHECKING:
    from eventlog.redis.server import Server


async def disagreement(server: Server, partitions: int) -> str:
    """Why a process with that many partitions can't work with the deployment on `server`; empty if it can.

    Raises:
        LogUnavailableError: if that can't be found out now.
    """
    return await _eviction(server) or await _other_partitions(server, partitions)


async def _eviction(server: Server) -> str:
    """A server that evicts keys when its memory is full throws speech away without a word."""
    for memory in (await server.each_master("INFO", "memory")).values():
        if isinstance(memory, Exception):
            raise memory
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            return f"Redis evicts keys when its memory is full (maxmemory-policy {policy}); set it to noeviction"
    return ""


async def _other_partitions(server: Server, partitions: int) -> str:
    key = keys.partition_count()
    try:
        stored = await server.execute("GET", key)
        if stored is None:  # not blindly: a full server refuses SET, and those who drain it must be able to start
            await server.execute("SET", key, partitions, "NX")
            stored = await server.execute("GET", key)
    except LogUnavailableError:
        if await _shows_partitions(server):
            return ""
        raise
    stored = int(stored)
    if stored == partitions:
        return ""
    return (
        f"this deployment has {stored} partitions, and the setting says {partitions}; "
        f"set STENOLOG_PARTITIONS={stored}, or use an empty Redis"
    )


async def _shows_partitions(server: Server) -> bool:
    """Whether what the nodes that answer hold is of a deployment with this number of partitions.

    Every partition of one has its stream of sessions, which workers make when they start, and under another number
    hardly any has the same tag.
    """
    found = await server.execute_many([("EXISTS", partition.sessions) for partition in server.keys.partitions])
    reached = [answer for answer in found if not isinstance(answer, Exception)]
    return len(reached) > 1 and all(reached)
