"""Early trim: frees processed audio that is kept for replays alone, on nodes that are short of memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from eventlog.keys import LIVE_RUN, PartitionKeys, SessionKeys
from eventlog.redis.scripts import script
from eventlog.redis.server import Call, Server

SESSIONS_PER_PAGE = 50
"""Of one partition, in one round trip: under a millisecond of Redis's time, freeing itself is lazy."""


async def iterate_retained_sessions(server: Server, partition: PartitionKeys) -> AsyncIterator[list[SessionKeys]]:
    """Yield the retained sessions of a partition page by page, the longest silent first.

    Those that move meanwhile may be missed.

    Raises:
        LogUnavailableError: if their node can't be reached.
    """
    first = 0
    while members := await server.execute("ZRANGE", partition.index, first, first + SESSIONS_PER_PAGE - 1):
        runs = [server.keys.of_run(member.decode()) for member in members]
        yield [run.session for run in runs if run.run == LIVE_RUN]
        first += SESSIONS_PER_PAGE


async def free_processed(server: Server, sessions: Sequence[SessionKeys], *, keeps_unarchived: bool) -> int:
    """Free these sessions' processed audio, with `keeps_unarchived` only if it is archived too; return the entries.

    Raises:
        LogUnavailableError: if their node can't be reached.
    """
    calls = [
        Call(script("free_processed"), [keys.session, keys.audio, keys.run().checkpoint], [int(keeps_unarchived)])
        for keys in sessions
    ]
    return sum(await server.run_all(calls))
