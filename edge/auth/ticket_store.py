"""Short-lived tickets, for listeners that can't send a token: Redis knows them by hash, and forgets them by TTL."""

from __future__ import annotations

from eventlog import keys
from eventlog.redis.server import Server


async def keep(server: Server, ticket_hash: str, allows: bytes, *, ttl_s: int) -> None:
    """Keep what a ticket allows for `ttl_s`.

    Raises:
        LogUnavailableError: if Redis can't be reached; the ticket is then worth nothing, or lapses unused.
    """
    await server.execute("SET", keys.ticket(ticket_hash), allows, "EX", ttl_s)


async def find(server: Server, ticket_hash: str) -> bytes | None:
    """What a ticket allows; None if there is no such ticket, or no longer.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    kept: bytes | None = await server.execute("GET", keys.ticket(ticket_hash))
    return kept
