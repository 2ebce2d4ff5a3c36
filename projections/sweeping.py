"""Keeps the lists of open runs true: a run whose view has expired or was erased is open no longer."""

from __future__ import annotations

from eventlog.server import Server

OLDEST_PER_SWEEP = 100
"""Per partition: the oldest are those that expire; a sweep a few seconds later takes the next hundred."""


async def sweep_open_runs(server: Server) -> int:
    """Take out of each partition's open runs those of the oldest whose view is gone; returns how many.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    partitions = server.keys.partitions
    oldest = await server.execute_many(
        [("ZRANGE", partition.open_runs, 0, OLDEST_PER_SWEEP - 1) for partition in partitions]
    )
    members = [
        (partition, member.decode())
        for partition, found in zip(partitions, oldest, strict=True)
        if not isinstance(found, Exception)
        for member in found
    ]
    alive = await server.execute_many([("EXISTS", server.keys.of_run(member).view) for _, member in members])
    # A view that is missing never comes back: it and its place in the list are made by one script, once.
    gone = [one for one, there in zip(members, alive, strict=True) if there == 0]
    await server.execute_many([("ZREM", partition.open_runs, member) for partition, member in gone])
    return len(gone)
