"""How many requests each tenant makes, counted over all replicas in fixed windows of a minute."""

from __future__ import annotations

from eventlog import keys
from eventlog.redis.scripts import script
from eventlog.redis.server import Server

WINDOW_S = 60

TTL_S = 2 * WINDOW_S
"""A window's count outlives it by as much as edges' clocks may differ."""


async def count(server: Server, tenant_id: str, now_s: float) -> int:
    """Count a request made at `now_s` (Unix time); returns how many the tenant made in that minute.

    Raises:
        LogUnavailableError: if Redis can't be reached, or is full.
    """
    key = keys.request_count(tenant_id, int(now_s // WINDOW_S))
    return int(await server.run(script("increment_request_count"), [key], [TTL_S]))
