"""Renews a connection's epoch, which a failover of Redis lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.session.append_source import AppendSource
from edge.session.opener import Session
from edge.websocket.host import ConnectionHost
from eventlog.log import Code, LogUnavailableError

RESUME_PAUSE_S = 0.1
"""Between two tries to resume a session again, while Redis is away."""


async def renew_epoch(
    host: ConnectionHost, session: Session, source: AppendSource, is_over: Callable[[], bool]
) -> bool:
    """Raise the epoch of `session` again, and have `source` continue under it; False if the log refuses.

    Repeated while the log is unavailable, unless the connection `is_over`.
    """
    while not is_over():
        try:
            opened = await host.log.resume(session.stream, session.token_hash)
        except LogUnavailableError:
            await asyncio.sleep(RESUME_PAUSE_S)
            continue
        if opened.code is not Code.OK:
            return False
        source.uplink.resume(opened.epoch, opened.head)
        host.batcher.enqueue(source, 0)
        return True
    return True
